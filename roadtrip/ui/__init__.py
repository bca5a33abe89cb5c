"""The app: one file a tab, charts as pure functions to plotly figures, two small JavaScript assets. No maths here."""
