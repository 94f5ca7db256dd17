"""The lessons in the reader's browser: JupyterLite's site, with Pyodide and our own packages.

`gathering` fetches what it is made of, once and with network; `building` makes the site of it.
"""
