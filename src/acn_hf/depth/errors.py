"""What is raised where nothing can be measured."""


class ProfileError(ValueError):
    """Data, a metric or weights of which nothing can be measured at every depth."""
