"""ingest.yaml: images found in folders, what of them is wanted, and the lesions that somebody marked in images."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from riskpred.config.model import Strict

Projection = ("CR", "DX", "MG")
"""Image types that are one projection each: only these have a view."""

TimeTag = Literal["acquisition", "content", "series", "study"]
"""acquisition = AcquisitionDateTime, else AcquisitionDate and AcquisitionTime; the others: their date and time."""

NAMED_PARTS = ("subject", "image_id", "time", "image_type", "body_part", "view", "laterality")
"""Named groups that `pattern` may have."""


class SubjectMap(Strict):
    """Who is behind an identifier in files. Only what stands under `subject` goes into the warehouse."""

    file: str = Field(description="CSV or Parquet under SOURCE, or a DuckDB file")
    table: str | None = Field(None, description="table name, where `file` is a DuckDB file")
    identifier: str = Field(description="column with the identifier as the files have it")
    subject: str = Field(description="column with the subject's identifier, as the other tables have it")


class TimeTable(Strict):
    """Times of images in a table of their own."""

    file: str
    table: str | None = None
    image: str = Field(description="column that names the image")
    match: Literal["path", "name", "stem"] = Field(
        "name", description="what that column holds: path below SOURCE, file name, or file name without its endings"
    )
    column: str = Field(description="column with the time")
    format: str | None = Field(None, description="strptime, where it is text other than ISO 8601")


class FolderTime(Strict):
    """When an image was made: exactly one of tags (in order of preference), pattern, table, static."""

    tags: Annotated[tuple[TimeTag, ...], Field(min_length=1)] | None = None
    pattern: str | None = Field(None, description="strptime format of the group `time` of the folder's pattern")
    table: TimeTable | None = None
    static: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "FolderTime":
        if sum(way is not None for way in (self.tags, self.pattern, self.table, self.static)) != 1:
            raise ValueError("give exactly one of tags, pattern, table, static")
        return self


class WantedImages(Strict):
    """What of one image type belongs. An empty list takes everything."""

    body_parts: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    lateralities: tuple[Literal["L", "R", "B"], ...] = ()
    unsaid: Literal["refuse", "accept"] = Field(
        "refuse", description="what to do with an image that does not say its body part, view or side, where it matters"
    )

    @field_validator("body_parts", "views")
    @classmethod
    def _as_dicom_writes(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(value.upper() for value in values)


class PixelChecks(Strict):
    """What pixels are refused for. Blank pictures (one grey value nearly everywhere) always are."""

    inverted: Literal["refuse", "allow"] = "refuse"
    longest_to_shortest: float = Field(3.0, gt=1, description="sides of a picture; beyond it is a strip: cropped")
    least_content: float = Field(
        0.2, ge=0, lt=1, description="share of the picture that is no even border; less is cropped or collimated away"
    )
    least_mm: float | None = Field(None, gt=0, description="shorter side in mm, where spacing is known")


class ImageFolder(Strict):
    """Images of a folder, or those that a DICOMDIR names: every single image or series becomes one row of `images`."""

    name: str
    path: str = Field(description="folder or DICOMDIR under SOURCE; globs allowed")
    files: str = Field("**/*", description="glob of files in a folder")
    subject: Literal["PatientID", "pattern"]
    subject_map: SubjectMap | None = None
    pattern: str | None = Field(
        None, description=f"regular expression on the path below SOURCE, with named groups: {', '.join(NAMED_PARTS)}"
    )
    time: FolderTime = FolderTime(tags=("acquisition", "content", "series", "study"))
    image_type: str | None = Field(None, description="DICOM code of files that do not say (PNG, NIfTI)")
    wanted: dict[str, WantedImages] = Field(default={}, description="image type -> what belongs; empty: all types")
    burned_in: Literal["refuse", "allow"] = Field(
        "refuse", description="files that have text in their pixels, or may: see README, Images from a PACS export"
    )
    checks: PixelChecks = PixelChecks()
    allow_rejects: float = Field(
        0.05, ge=0, le=1, description="share of the images that may be refused, those that are not wanted aside"
    )

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "ImageFolder":
        groups: set[str] = set()
        if self.pattern is not None:
            try:
                groups = set(re.compile(self.pattern).groupindex)
            except re.error as error:
                raise ValueError(f"pattern: no regular expression ({error.msg})") from None
        if strange := sorted(groups - set(NAMED_PARTS)):
            raise ValueError(f"pattern: unknown group {', '.join(strange)}; known are {', '.join(NAMED_PARTS)}")
        if self.subject == "PatientID" and self.subject_map is None:
            raise ValueError("subject: PatientID needs a subject_map, so that no identifier of a file is copied")
        for wants, group in ((self.subject == "pattern", "subject"), (self.time.pattern is not None, "time")):
            if wants != (group in groups):
                raise ValueError(
                    f"pattern: no group (?P<{group}>...)" if wants else f"pattern: the group {group} is of no use"
                )
        return self


def _slices_in_a_folder(path: str) -> str:
    folder, _, name = path.rpartition("/")
    if "*" in folder or ("*" in name and not folder):
        raise ValueError("a `*` stands in the name of files that lie in a folder: slices/{patient}_*.png")
    return path


PathTemplate = Annotated[str, AfterValidator(_slices_in_a_folder)]
"""Path below SOURCE with {column} placeholders; a `*` in its name: the slices of one volume."""


class MaskColumns(Strict):
    """A mask: a picture of the image's size."""

    path: PathTemplate = Field(description="template as of images, e.g. masks/{image}.png")
    value: int | None = Field(None, description="value of the lesion's pixels; default any but 0")
    value_column: str | None = None

    @model_validator(mode="after")
    def _one_value(self) -> "MaskColumns":
        if self.value is not None and self.value_column is not None:
            raise ValueError("give one of value, value_column")
        return self


class SphereColumns(Strict):
    """A sphere: columns with its centre in patient coordinates (LPS, mm) and its diameter."""

    x_mm: str
    y_mm: str
    z_mm: str
    diameter_mm: str


class BoxColumns(Strict):
    """A box in pixels of the file: columns with its upper left corner, and its size or its lower right corner."""

    row: str
    col: str
    height_px: str | None = None
    width_px: str | None = None
    row_end: str | None = Field(None, description="first row below the box")
    col_end: str | None = Field(None, description="first column to its right")
    slice: str | None = None

    @model_validator(mode="after")
    def _one_size(self) -> "BoxColumns":
        size, end = (self.height_px, self.width_px), (self.row_end, self.col_end)
        if (None in size) == (None in end) or (any(size) and any(end)):
            raise ValueError("give height_px and width_px, or row_end and col_end")
        return self


class PolygonColumns(Strict):
    """A polygon: a column with [[row, col], ...] as JSON, and one with its slice, or with the z of the slice's first
    voxel in the patient (LPS, mm)."""

    points: str
    slice: str | None = None
    z_mm: str | None = None

    @model_validator(mode="after")
    def _one_slice(self) -> "PolygonColumns":
        if self.slice is not None and self.z_mm is not None:
            raise ValueError("give at most one of slice, z_mm")
        return self


class AnnotationMapping(Strict):
    """One lesion per source row, or with `none` that an image has none; exactly one of the kinds.

    The image is named by exactly one of image_id (as in `images`), image_uid (SOPInstanceUID or SeriesInstanceUID, for
    images found in a folder), image_path (template of its path below SOURCE).
    """

    image_id: str | None = None
    image_uid: str | None = None
    image_path: str | None = None
    lesion: str | None = Field(None, description="column with its number in the image; default: counted")
    label: str | None = Field(None, description="label of all rows")
    label_column: str | None = None
    labels: dict[str, str] = Field(default={}, description="value of label_column -> label; default as it is")
    when: dict[str, tuple[str | int | float | bool, ...]] = Field(
        default={}, description="column -> values for which the mapping applies; other rows are `ignored`"
    )
    mask: MaskColumns | None = None
    sphere: SphereColumns | None = None
    box: BoxColumns | None = None
    polygon: PolygonColumns | None = None
    none: Literal[True, "unless_marked"] | None = Field(
        None,
        description="true: somebody looked at the image and saw no lesion; unless_marked: the same, of images that no "
        "other row marks, be that row usable or not",
    )
    allow_rejects: float = Field(0.05, ge=0, le=1)

    @model_validator(mode="after")
    def _one_of_each(self) -> "AnnotationMapping":
        kinds = (self.mask, self.sphere, self.box, self.polygon, self.none)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("give exactly one of mask, sphere, box, polygon, none")
        if sum(way is not None for way in (self.image_id, self.image_uid, self.image_path)) != 1:
            raise ValueError("give exactly one of image_id, image_uid, image_path")
        if (self.label is None) == (self.label_column is None) and self.none is None:
            raise ValueError("give exactly one of label, label_column")
        if self.none and (self.label is not None or self.label_column is not None or self.lesion is not None):
            raise ValueError("label, lesion: of no use beside none")
        if self.labels and self.label_column is None:
            raise ValueError("labels: only with label_column")
        return self
