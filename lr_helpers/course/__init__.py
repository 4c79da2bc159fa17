"""What the notebooks need beside the method: samples, widgets, votes, the set-up on Colab."""
