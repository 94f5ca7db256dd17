"""Sphinx directives: what is read from the code as nodes of a page, so that nothing is escaped."""

import dataclasses
import importlib
import inspect

from docutils import nodes
from docutils.parsers.rst import Directive
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes

import mgt_np

from . import equations, names, running
from .docstrings import Equation, Line, blocks
from .repository import ROOT, listing_of, page_of


class Page(Directive):
    """A directive that knows the page that it stands on, and how to link to others."""

    has_content = False
    optional_arguments = 1

    @property
    def env(self):
        return self.state.document.settings.env

    def link(self, path, text, anchor="", code=True):
        """A link to a file of the repository, on the page that it is or that lists it."""
        page = (page_of(path) or listing_of(path)).rpartition(".")[0]
        uri = self.env.app.builder.get_relative_uri(self.env.docname, page)
        words = nodes.literal(text, text) if code else nodes.Text(text)
        return nodes.reference("", "", words, refuri=uri + (f"#{anchor}" if anchor else ""))

    def link_to(self, place, text=None):
        """A link to the line of a file."""
        return self.link(place.path, text or place.name, f"L-{place.line}")

    def link_to_function(self, name):
        """A link to a public name's entry; the name as code where it has none."""
        cross = addnodes.pending_xref(
            "",
            nodes.literal(name, name),
            refdomain="py",
            reftype="obj",
            reftarget=FULL_NAMES.get(name, name),
            refexplicit=True,
            refdoc=self.env.docname,
            refwarn=False,
        )
        return cross if name in FULL_NAMES else nodes.literal(name, name)

    def lessons(self, paths):
        """Links to lessons by their numbers."""
        return _joined([self.link(path, path[8:10], code=False) for path in paths])

    def equation(self, lines):
        """An equation, a line for each of its lines, in a box that scrolls by itself."""
        box = nodes.container(classes=["equation"])
        for line in lines:
            row = nodes.paragraph("", "", nodes.literal(line.text, line.text))
            if line.source:
                row += nodes.inline("", f"({line.source})", classes=["source"])
            box += row
        return box

    def text(self, docstring):
        """A docstring's paragraphs and equations."""
        found = []
        for block in blocks(docstring):
            if isinstance(block, Equation):
                found.append(self.equation(block.lines))
                continue
            paragraph = nodes.paragraph()
            for part, is_code in block.parts:
                paragraph += self.link_to_function(part) if is_code else nodes.Text(part)
            if block.item:
                paragraph = nodes.bullet_list("", nodes.list_item("", paragraph))
            found.append(paragraph)
        return found


# ---- the reference


class Reference(Page):
    """The public names of a room, file by file: signature, docstring, where else they are met."""

    required_arguments = 1
    optional_arguments = 0

    def run(self):
        self.room = importlib.import_module(self.arguments[0])
        families = names.families_of(self.room)
        return [self.family(module, families[module]) for module in families]

    def family(self, module, listed):
        """A section for a file, and an entry for each of its public names."""
        members = [(name, getattr(self.room, name)) for name in listed]
        title = module.removeprefix(f"{self.room.__name__}.").replace("_", " ").replace(".", ", ")
        section = nodes.section(ids=[nodes.make_id(module)], names=[module])
        section += nodes.title("", title)
        section += self.text(inspect.getdoc(importlib.import_module(module)) or "")
        members.sort(key=lambda member: _line(member[1]))
        section += [self.entry(name, value) for name, value in members]
        return section

    def entry(self, name, value):
        kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
        full = f"{self.room.__name__}.{name}"
        entry = addnodes.desc(domain="py", objtype=kind, desctype=kind, classes=["py", kind])
        signature = addnodes.desc_signature(ids=[full], classes=["sig", "sig-object"])
        signature["multiline"] = False
        signature += addnodes.desc_addname("", f"{_shown_module(name, self.room)}.")
        signature += addnodes.desc_name("", name)
        if kind != "data":
            signature += parameters_of(value)
        content = addnodes.desc_content()
        content += self.about(name, value) if kind == "data" else self.text(_docstring(value))
        if inspect.isclass(value):
            content += [self.method(full, each) for each in _methods(value)]
        if kind != "data":
            content += self.met(name, value)
        entry += [signature, content]
        self.env.get_domain("py").note_object(full, kind, full, location=signature)
        return entry

    def method(self, full, function):
        signature = addnodes.desc_signature(ids=[f"{full}.{function.__name__}"], multiline=False)
        signature += addnodes.desc_name("", function.__name__)
        signature += parameters_of(function)
        content = addnodes.desc_content("", *self.text(_docstring(function)))
        return addnodes.desc(
            "", signature, content, domain="py", objtype="method", desctype="method", classes=["py"]
        )

    def about(self, name, value):
        """What a constant holds: the keys of a mapping, the members of a tuple."""
        members = list(value)
        shown = [getattr(member, "name", member) for member in members]
        paragraph = nodes.paragraph("", f"{len(members)} entries: ")
        for i, member in enumerate(shown):
            paragraph += [nodes.Text(", " if i else ""), nodes.literal(str(member), str(member))]
        found = [paragraph]
        if name == "RESIDUAL_RULES":
            found = [_table(("name", "rule"), [_rule_cells(*rule) for rule in value.items()])]
        return found

    def met(self, name, value):
        """One line: the source, the fused form, the test and the lessons of an equation."""
        row = ROWS.get(name) if getattr(mgt_np, name, None) is value else None
        unwrapped = inspect.unwrap(value)
        path = equations.module_path(value.__module__)
        line = nodes.paragraph(classes=["met"])
        line += self.link(path, "source", f"L-{_line(unwrapped)}", code=False)
        if row is not None:
            if row.fused:
                line += [nodes.Text(" · "), self.link(row.fused.path, "fused form", code=False)]
            for test in row.tests[:1]:
                line += [nodes.Text(" · test "), self.link_to(test)]
            if row.lessons:
                line += nodes.Text(" · lesson " if len(row.lessons) == 1 else " · lessons ")
                line += self.lessons(row.lessons)
        return [line]


def _joined(links):
    """Links with commas between them."""
    found = []
    for link in links:
        found += [nodes.Text(", "), link] if found else [link]
    return found


def _rule_cells(name, rule):
    return [nodes.literal(name, name)], [nodes.literal(rule.equation, rule.equation)]


def _shown_module(name, room):
    return "mgt_np" if name in mgt_np.__all__ else room.__name__


def _docstring(value):
    docstring = inspect.getdoc(value) or ""
    return "" if docstring.startswith(f"{value.__name__}(") else docstring


def _line(value):
    """The line on which a name is defined; constants stand first."""
    try:
        return inspect.getsourcelines(inspect.unwrap(value))[1]
    except (TypeError, OSError):
        return 0


def _methods(kind):
    """The public methods that a class defines itself, in their order."""
    members = vars(kind).items()
    functions = [
        getattr(value, "__func__", value) for name, value in members if not name.startswith("_")
    ]
    return [function for function in functions if inspect.isfunction(function)]


def parameters_of(value):
    """A parameter list as `help()` shows it, one node a parameter."""
    listed = addnodes.desc_parameterlist()
    try:
        signature = inspect.signature(value)
    except ValueError:
        return listed
    parameters, starred = list(signature.parameters.values()), False
    if parameters and parameters[0].name == "self":
        del parameters[0]
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            starred = True
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            listed += _parameter(addnodes.desc_sig_operator("", "*"))
        listed += _parameter(*parameter_nodes(parameter))
    listed["multi_line_parameter_list"] = len(listed.astext()) > 70
    listed["multi_line_trailing_comma"] = False
    found = [listed]
    if signature.return_annotation is not signature.empty and not inspect.isclass(value):
        found.append(addnodes.desc_returns("", shown_annotation(signature.return_annotation)))
    return found


def _parameter(*parts):
    return addnodes.desc_parameter("", "", *parts)


def parameter_nodes(parameter):
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    found = [addnodes.desc_sig_operator("", stars)] if stars else []
    found.append(addnodes.desc_sig_name("", parameter.name))
    annotated = parameter.annotation is not parameter.empty
    if annotated:
        found += [addnodes.desc_sig_punctuation("", ":"), addnodes.desc_sig_space()]
        found.append(nodes.inline("", shown_annotation(parameter.annotation), classes=["shape"]))
    if parameter.default is not parameter.empty:
        equals = " = " if annotated else "="
        found.append(addnodes.desc_sig_operator("", equals))
        found.append(nodes.inline("", shown_value(parameter.default), classes=["default_value"]))
    return found


def shown_annotation(annotation):
    return inspect.formatannotation(annotation)


def shown_value(value):
    """A default as code; a function by its name, anything whose repr is an address by its type."""
    if inspect.isroutine(value):
        return value.__name__
    if type(value) is object or dataclasses._HAS_DEFAULT_FACTORY is value:
        return "…"
    return repr(value)


# ---- the index of equations


def _table(titles, rows):
    """A table of nodes: a cell is a list of inline nodes, or of blocks, a paragraph first."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in titles), cols=len(titles))
    group += nodes.thead("", _table_row([[nodes.Text(title)] for title in titles]))
    group += nodes.tbody("", *map(_table_row, rows))
    return nodes.table("", group)


def _table_row(cells):
    entries = []
    for cell in cells:
        is_blocks = bool(cell) and isinstance(cell[0], nodes.paragraph)
        entries.append(nodes.entry("", *(cell if is_blocks else [nodes.paragraph("", "", *cell)])))
    return nodes.row("", *entries)


class IndexOfEquations(Page):
    """A table for each family of equations, and one of the residual rules."""

    def run(self):
        return [*(self.family(family) for family in FAMILIES), self.rules()]

    def family(self, family):
        rows = [
            (
                self.named(self.link_to_function(row.function.name), row.lines),
                self.met(
                    ("fused form", [self.link_to(row.fused, row.fused.path)] if row.fused else []),
                    ("test", _joined([self.link_to(test) for test in row.tests])),
                    ("lessons", self.lessons(row.lessons)),
                    ("figures", self.figures(row.experiments)),
                ),
            )
            for row in family.rows
        ]
        title = family.title.partition(". Lesson")[0].rstrip(".")
        return self.section(title, family.module, rows)

    def rules(self):
        rows = [
            (
                self.named(self.link_to(rule.place), [Line(rule.equation, rule.source)]),
                self.met(
                    ("lessons", self.lessons(rule.lessons)),
                    ("figures", self.figures(rule.experiments)),
                ),
            )
            for rule in equations.rules()
        ]
        return self.section("Residual rules", "mgt_np/models/rules", rows)

    def section(self, title, path, rows):
        section = nodes.section(ids=[nodes.make_id(path)], names=[path])
        section += [nodes.title("", title), nodes.paragraph("", "", self.link(path, path))]
        table = _table(("equation", "where it is met"), rows)
        table["classes"].append("index-of-equations")
        section += table
        return section

    def named(self, link, lines):
        """A name with its equation below it."""
        return [nodes.paragraph("", "", link), self.equation(lines)]

    def met(self, *kinds):
        """A line for each kind of place, where there are any."""
        return [
            nodes.paragraph("", "", nodes.inline("", f"{kind} ", classes=["kind"]), *links)
            for kind, links in kinds
            if links
        ]

    def figures(self, names):
        return _joined([self.link("figures/claims.md", name, name, code=False) for name in names])


FAMILIES = equations.index()
FULL_NAMES = names.full_names()
ROWS = {row.function.name: row for family in FAMILIES for row in family.rows}


# ---- files


class Listing(Page):
    """The lines of a file of the repository, each with an anchor of its own."""

    required_arguments = 1
    optional_arguments = 0

    def run(self):
        path = ROOT / self.arguments[0]
        try:
            lexer = get_lexer_for_filename(path.name)
        except ClassNotFound:
            lexer = TextLexer()
        form = HtmlFormatter(linenos="inline", linespans="L", cssclass="highlight", wrapcode=True)
        lines = highlight(path.read_text(encoding="utf-8"), lexer, form)
        return [nodes.raw("", f'<div class="listing">{lines}</div>', format="html")]


NAVIGATION = {}


def remember_navigation(app, pagename, templatename, context, doctree):
    """All listings of one folder have the same bar at the side: it is made once."""
    if not pagename.startswith("source/"):
        return
    folder, make = pagename.rpartition("/")[0], context["toctree"]

    def toctree(**options):
        key = folder, *sorted(options.items())
        if key not in NAVIGATION:
            NAVIGATION[key] = make(**options)
        return NAVIGATION[key]

    context["toctree"] = toctree


def setup(app):
    app.connect("html-page-context", remember_navigation, priority=400)  # before furo's
    app.add_config_value("mgt_np_lite", False, "html")
    app.connect("html-page-context", running.add_button)
    app.add_directive("reference", Reference)
    app.add_directive("index-of-equations", IndexOfEquations)
    app.add_directive("listing", Listing)
    return {"parallel_read_safe": True}
