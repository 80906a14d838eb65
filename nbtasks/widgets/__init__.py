"""Live views of tasks, made of stock ipywidgets."""
