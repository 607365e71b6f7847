"""Files of several documents: which merge has to run before which."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.config.document import Document

_RESERVED = frozenset({".", ".."})


def in_order(documents: Sequence[Document]) -> list[Document]:
    """Return the documents so that each comes after those it refers to, the output last.

    Raises
    ------
    ConfigError
        There is not exactly one document without a name, two have the same name, or they refer to one another
        in a circle.
    """
    if len(documents) == 1:
        return [_only(documents[0])]
    named = _by_name(documents)
    outputs = [document for document in documents if document.name is None]
    if not outputs:
        raise documents[-1].where.error(
            "every document has a `name`; leave it out of the one whose result is the output"
        )
    if len(outputs) > 1:
        raise outputs[1].where.error(
            "two documents have no `name`; name all but the one whose result is the output"
        )
    linked = [
        replace(
            document,
            depends_on=tuple(
                dict.fromkeys(
                    ref.path
                    for ref in document.referenced_models
                    if ref.revision is None and ref.path in named
                )
            ),
        )
        for document in documents
    ]
    used = {name for document in linked for name in document.depends_on}
    by_name = {document.name: document for document in linked}
    ordered: list[Document] = []
    for document in [*(document for document in linked if document.name is not None), by_name[None]]:
        _place(document, by_name, ordered, ())
    return [_noted(document, used) for document in ordered]


def _only(document: Document) -> Document:
    if document.name is None:
        return document
    note = document.where.note(
        f"the only document is the output; its name `{document.name}` changes nothing."
    )
    return replace(document, name=None, notes=(*document.notes, note))


def _by_name(documents: Sequence[Document]) -> dict[str, Document]:
    named: dict[str, Document] = {}
    for document in documents:
        name = document.name
        if name is None:
            continue
        if name in _RESERVED or "/" in name or "\\" in name or "\0" in name:
            raise document.where.error(
                f"`name` is `{name}`; it names a folder beside the output and has no slash in it"
            )
        if name in named:
            raise document.where.error(f"two documents are named `{name}`; names tell documents apart")
        named[name] = document
    return named


def _place(
    document: Document, by_name: dict[str | None, Document], ordered: list[Document], path: tuple[str, ...]
) -> None:
    """Append a document after those it depends on; `path` is the chain of names that led to it."""
    if any(done is document for done in ordered):
        return
    if document.name in path:
        circle = " → ".join([*path[path.index(document.name) :], document.name])
        raise document.where.error(f"documents refer to one another in a circle: {circle}; break it")
    for name in document.depends_on:
        _place(by_name[name], by_name, ordered, path if document.name is None else (*path, document.name))
    ordered.append(document)


def _noted(document: Document, used: set[str]) -> Document:
    if document.name is None or document.name in used:
        return document
    return replace(
        document,
        notes=(*document.notes, document.where.note(f"no other document refers to `{document.name}`.")),
    )
