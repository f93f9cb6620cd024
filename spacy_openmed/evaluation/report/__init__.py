"""The report on a run: its files collected into one object, shown in several forms."""
