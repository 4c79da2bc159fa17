"""The door that the set-up cells of notebooks handed out earlier knock at; see `lr_helpers.course.colab`."""

from lr_helpers.course.colab import SetUpError, set_up

__all__ = ["SetUpError", "set_up"]
