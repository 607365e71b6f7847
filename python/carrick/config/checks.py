"""What can only be judged once a whole document is read: values missing or contradicting one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.config.options import merge_options

if TYPE_CHECKING:
    from carrick.config.document import Document, Slice, Source
    from carrick.config.settings import Setting


# What all tensors of one trim share.
_OF_A_TRIM = ("density", "kept_count", "at_threshold")


def check(document: Document) -> None:
    """Raise for a document that no models could carry out."""
    for part in document.parts:
        _check_required(document, part)
    if merge_options(document).get("trim_scope") == "model":
        _check_one_trim(document)


def _check_required(document: Document, part: Slice) -> None:
    for parameter in document.method.parameters:
        if (
            not parameter.required
            or parameter.name in document.parameters
            or parameter.name in part.parameters
        ):
            continue
        if parameter.scope != "model":
            raise document.where.error(
                f"`{document.method.name}` needs `{parameter.name}`; give it under `parameters` of the "
                "document"
            )
        for source in part.merged:
            if parameter.name not in source.parameters:
                raise source.where.error(
                    f"`{source.ref}` has no `{parameter.name}`, which `{document.method.name}` needs; give "
                    "it under "
                    "`parameters` of this model or of the document"
                )


def _check_one_trim(document: Document) -> None:
    """Raise where the numbers of a trim over a whole model differ between its tensors."""
    seen: dict[tuple[object, ...], object] = {}
    for part in document.parts:
        for index, source in enumerate(part.merged):
            for name in _OF_A_TRIM:
                setting = _nearest_setting(name, document, part, source)
                if setting is not None and setting.constant is None:
                    raise setting.where.error(
                        f"`trim_scope: model` trims a model as a whole; `{name}` cannot differ between its tensors"
                    )
                value = None if setting is None else setting.constant
                if seen.setdefault((name, source.ref, index), value) != value:
                    raise part.where.error(
                        f"`trim_scope: model` trims a model as a whole; the slices give `{source.ref}` "
                        f"different values of `{name}`"
                    )


def _nearest_setting(name: str, document: Document, part: Slice, source: Source) -> Setting | None:
    levels = (source.parameters, part.parameters, document.parameters)
    return next((level[name] for level in levels if name in level), None)
