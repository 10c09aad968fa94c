"""What every room uses: records, circumstances, evaluation mode, and what is wrapped around a model."""
