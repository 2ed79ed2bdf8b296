"""The law in exact fractions, which audits use, too (sevenfold.audit.rational)."""

from sevenfold.audit.rational import *  # noqa: F403 - every name of it
