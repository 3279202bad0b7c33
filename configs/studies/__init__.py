"""One file a study; `python -m launch.study --config=configs/studies/NAME.py`."""
