"""What authors run: building the notebook pairs, their exercise versions, badges, and the report."""
