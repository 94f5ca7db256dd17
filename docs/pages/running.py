"""The button on a lesson's page that opens it in JupyterLite, where that stands beside the site."""

LITE = "lite"  # its folder in the site
PLACE = LITE + "/notebooks/index.html?path={}.ipynb"
SENTENCE = (
    "Python starts in the page itself, and nothing has to be installed. What you change is kept in "
    "this browser: if your copy is older than this page, <i>Help → Clear Browser Data</i> in the "
    "notebook brings the lesson as it is here."
)


def button(pagename):
    """The button for a page as HTML; empty for a page that is no lesson."""
    folder, _, name = pagename.rpartition("/")
    if folder != "lessons" or not name[:2].isdigit():
        return ""
    link = f'<a class="run" href="../{PLACE.format(name)}">Run this lesson in your browser</a>'
    return f'<div class="run-lesson">{link}<p>{SENTENCE}</p></div>\n'


def add_button(app, pagename, templatename, context, doctree):
    """Put the button above a lesson, if the site is built with JupyterLite beside it."""
    if app.config.mgt_np_lite and context.get("body"):
        context["body"] = button(pagename) + context["body"]
