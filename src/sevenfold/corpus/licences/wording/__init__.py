"""Licences in the words of texts: notices, tags, licence texts, restrictions."""
