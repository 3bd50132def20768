"""Projects that start on a device: ``Artifact.save_project``. ``table.py`` has a row for each kind of project."""
