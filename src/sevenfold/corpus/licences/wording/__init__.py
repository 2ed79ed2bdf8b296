"""What texts say of licences: notices, tags, licence texts, restrictions."""
