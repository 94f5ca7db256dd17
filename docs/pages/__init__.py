"""How the site's pages are made of the repository: plain functions, but for `directives`."""
