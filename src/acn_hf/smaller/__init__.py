"""Smaller without less depth: zeros, narrower MLPs, fewer bits."""
