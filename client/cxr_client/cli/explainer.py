"""Explainer: an image -> its explanations, as the options of `cxr explain` ask for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cxr_client.async_client import AsyncClient
from cxr_client.cli.usage import ALL
from cxr_client.enums import CacheMode, DicomPresentation, ExplanationMethodName, RenderKind
from cxr_client.errors import CxrError
from cxr_client.requests import RenderOptions
from cxr_client.results import ExplanationSet, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """The options of `cxr explain`, and the client to ask."""

    client: AsyncClient
    labels: Sequence[str]
    """The findings to explain; without any, the one with the highest score."""

    drawn: Sequence[str]
    """Those to draw; without any, all that are explained."""

    above_threshold: bool
    """Whether only those above their operating point are explained: of `labels`, or of all."""

    method: ExplanationMethodName | None
    render: RenderOptions
    strict_input: bool | None
    presentation: DicomPresentation | None
    include_embedding: bool | None
    cache: CacheMode | None

    async def explain(self, image: bytes) -> ExplanationSet:
        """Return the explanations of an image; none where no finding is above its threshold."""
        if not self.above_threshold:
            return await self._ask(image, self.labels)
        scored = await self.client.predict(
            image,
            top_k=ALL,
            strict_input=self.strict_input,
            presentation=self.presentation,
            include_embedding=self.include_embedding,
            cache=self.cache,
        )
        labels = [
            finding.label
            for finding in scored.findings
            if finding.above_threshold and (not self.labels or finding.label in self.labels)
        ]
        return await self._ask(image, labels) if labels else _no_explanations(scored)

    async def _ask(self, image: bytes, labels: Sequence[str]) -> ExplanationSet:
        """Explain labels in one call, or in several if one would exceed the server's limit."""
        drawn = [label for label in self.drawn if label in labels]
        once = self.render.kind == RenderKind.RADIOGRAPH
        # An empty `heatmap_labels` means all labels, so drawing none needs the kind NONE.
        nothing = bool(self.drawn) and not drawn and not once
        try:
            return await self.client.explain(
                image,
                labels=labels,
                heatmap_labels=drawn,
                method=self.method,
                render=replace(self.render, kind=RenderKind.NONE) if nothing else self.render,
                strict_input=self.strict_input,
                presentation=self.presentation,
                include_embedding=self.include_embedding,
                cache=self.cache,
            )
        except CxrError as error:
            if error.reason != "EXPLANATION_TOO_LARGE" or len(labels) < 2 or once:
                raise
        middle = len(labels) // 2
        first = await self._ask(image, labels[:middle])
        second = await self._ask(image, labels[middle:])
        return replace(first, explanations=first.explanations + second.explanations)


def _no_explanations(scored: Prediction) -> ExplanationSet:
    return ExplanationSet(
        explanations=(),
        findings=scored.findings,
        model=scored.model,
        image_info=scored.image_info,
        warnings=scored.warnings,
        timing=scored.timing,
        request_id=scored.request_id,
        notice=scored.notice,
        typicality=scored.typicality,
        embedding=scored.embedding,
    )
