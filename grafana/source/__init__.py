"""The dashboards: what each of them shows, and the parts that they are made of."""
