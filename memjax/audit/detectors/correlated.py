"""Detectors by Pearson correlation of pixels: unturned (paper A), in the best orientation, on the foreground alone."""

import dataclasses

from memjax.audit.describe import Descriptor, Images
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.leaks import NEAR_IDENTICAL
from memjax.audit.null import Law
from memjax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Correlation:
    """Correlate pixels: as the images lie, or in every orientation; all pixels, or those of the foreground."""

    name: str
    title: str
    source: str
    invariant_to: tuple[str, ...]
    is_turned: bool
    is_masked: bool = False
    score_name: str = "correlation"
    law: Law = "correlation"
    published: float | None = NEAR_IDENTICAL
    is_control: bool = False
    digest: str = ""

    def search(self, query: Images, gallery: Images, setting: Setting) -> Found:
        """Find each image's best partners.

        Raises:
          UserError: the foreground is asked for and not known.
        """
        if self.is_masked and setting.mask is None:
            raise UserError(
                "--detectors=foreground: the training images have no common background to leave out; leave it away."
            )
        group = setting.group(query)
        pairs = setting.pairs(
            query,
            gallery,
            Descriptor(channels=setting.channels, mask=setting.mask if self.is_masked else None),
            group=group if self.is_turned else group[:1],
            how="foreground" if self.is_masked else "" if self.is_turned else "unturned",
        )
        return Found(query_to_gallery=pairs.query_to_gallery, gallery_to_query=pairs.gallery_to_query)


UNTURNED = Correlation(
    name="correlation-unturned",
    title="Pixel correlation, unturned",
    source="Akbar et al. 2025 (paper A)",
    invariant_to=("contrast",),
    is_turned=False,
)
TURNED = Correlation(
    name="correlation",
    title="Pixel correlation, best orientation",
    source="paper A's, over all flips and quarter turns",
    invariant_to=("flips", "quarter turns", "contrast"),
    is_turned=True,
)
FOREGROUND = Correlation(
    name="foreground",
    title="Pixel correlation of the foreground",
    source="paper A's, without the common background",
    invariant_to=("flips", "quarter turns", "contrast"),
    is_turned=True,
    is_masked=True,
)
