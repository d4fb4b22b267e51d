"""An evaluation as one page to show around: figures, plots, and the worst mistakes with their depth views."""
