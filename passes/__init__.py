"""The passes that come with irprune, one file each. They register through entry points."""
