"""The files operators run: rules, dashboard, runbooks, compose. They are held to the code they speak of."""
