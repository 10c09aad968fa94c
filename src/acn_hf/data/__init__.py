"""Rows from files, folders and the Hub, and the batches of texts and images made of them."""
