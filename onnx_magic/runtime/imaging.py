"""Images to arrays with Pillow: the steps that preprocessor_config.json names, as Transformers does them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.errors import FeedError, GraphFileError, UsageError
from onnx_magic.records.results import Array
from onnx_magic.runtime.tokenizing import read_json

if TYPE_CHECKING:
    from PIL.Image import Image

Size: TypeAlias = tuple[int, int]
"""Height and width."""

_IMAGENET_STANDARD = (0.5, 0.5, 0.5)
_KIND_SUFFIXES = ("Fast", "Pil", "ImageProcessor", "FeatureExtractor")
_SHORTEST_EDGE_KINDS = frozenset(
    {"CLIP", "ChineseCLIP", "Bit", "ConvNext", "Levit", "MobileNetV1", "MobileNetV2", "MobileViT"}
)
"""Processors that read a lone number as the shortest edge, where the others make a square of it."""

_PLAIN_KINDS = frozenset({"ViT", "DeiT", "Beit", "Blip", "Pvt", "Siglip"}) | _SHORTEST_EDGE_KINDS


class ImageProcessor:
    """What a folder says of its images: resize, crop, rescale, normalise.

    Args:
        config: preprocessor_config.json.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.kind = _kind(config)
        self._edge_alone = self.kind in _SHORTEST_EDGE_KINDS
        self.notes: tuple[str, ...] = ()
        if self.kind not in _PLAIN_KINDS:
            name = config.get("image_processor_type") or config.get("feature_extractor_type") or "no type"
            self.notes = (f"images: {name} has no rule of its own here, the usual steps were taken",)

    def __call__(self, images: Any) -> Array:
        """One image or a list of them as `pixel_values`, float32[images, channels, height, width].

        An image is a path, a Pillow image, or a uint8 array of height x width x channels.

        Raises:
            UsageError: Pillow is not installed.
            FeedError: something is no image, or the images come out in different sizes.
        """
        many = images if isinstance(images, list | tuple) else [images]
        arrays = [self._one(image) for image in many]
        sizes = {array.shape for array in arrays}
        if len(sizes) > 1:
            raise FeedError(
                f"the images come out in different sizes: {', '.join(map(str, sorted(sizes)))}",
                fix="run them one at a time, or crop them to one size first",
            )
        return np.stack(arrays)

    def _one(self, image: Any) -> Array:
        config = self._config
        picture = open_image(image)
        if config.get("do_resize", True):
            picture = self._resized(picture)
        values: Array = np.moveaxis(np.asarray(picture), -1, 0)
        if config.get("do_center_crop", False):
            values = _center_crop(values, self._size(config.get("crop_size", 224), square=True))
        values = values.astype(np.float32)
        if config.get("do_rescale", True):
            values = values * np.float32(config.get("rescale_factor", 1 / 255))
        if config.get("do_normalize", self.kind != "MobileViT"):
            mean, std = (_per_channel(config.get(key)) for key in ("image_mean", "image_std"))
            values = (values - mean) / std
        if config.get("do_flip_channel_order", False):
            values = values[::-1]
        return np.ascontiguousarray(values, np.float32)

    def _resized(self, picture: Image) -> Image:
        rule = _RESIZERS.get(self.kind, _resize_plain)
        size = self._config.get("size", 224)
        if isinstance(size, int):
            size = {"shortest_edge": size} if self._edge_alone else {"height": size, "width": size}
        return rule(picture, size, self._config)

    def _size(self, size: Any, *, square: bool) -> Size:
        if isinstance(size, int) and square:
            return size, size
        return int(size["height"]), int(size["width"])


def load_image_processor(folder: Path) -> ImageProcessor | None:
    """The image processor of a folder, from preprocessor_config.json; `None` when it has none.

    Raises:
        GraphFileError: the file is not a JSON object, or its sizes are of no known form.
    """
    config = read_json(folder / "preprocessor_config.json")
    if not config or not any(key in config for key in ("image_mean", "do_resize", "size", "image_processor_type")):
        return None
    size = config.get("size", 224)
    if not isinstance(size, int) and not (isinstance(size, dict) and set(size) & {"height", "shortest_edge"}):
        raise GraphFileError(
            f"{folder / 'preprocessor_config.json'}: size is {size!r}, expected height and width, or shortest_edge",
            fix="feed pixel_values as an array",
        )
    return ImageProcessor(config)


def is_image(value: Any) -> bool:
    """Whether `value` is a Pillow image, or an array that can only be one: uint8, height x width (x channels).

    Example:
        >>> is_image(np.zeros((4, 4, 3), np.uint8))
        True
    """
    if type(value).__module__.split(".")[0] == "PIL":
        return True
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        return False
    return value.ndim == 2 or (value.ndim == 3 and value.shape[-1] in (1, 3, 4))


def open_image(image: Any) -> Image:
    """A path, a Pillow image or a uint8 array as an upright RGB Pillow image.

    Raises:
        UsageError: Pillow is not installed.
        FeedError: it is no image.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise UsageError("images need Pillow, which is not installed", fix="pip install pillow") from error
    try:
        if isinstance(image, str | Path):
            with Image.open(image) as file:
                return ImageOps.exif_transpose(file).convert("RGB")
        if isinstance(image, Image.Image):
            return ImageOps.exif_transpose(image).convert("RGB")
        if is_image(image):
            pixels = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
            return Image.fromarray(pixels).convert("RGB")
    except FileNotFoundError as error:
        raise FeedError(f"{image}: no such image file", fix="give the path of an image, or a Pillow image") from error
    except (UnidentifiedImageError, OSError) as error:
        raise FeedError(f"{image} is no image that Pillow reads", fix="convert it to PNG or JPEG") from error
    found = f"{image.dtype}{list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise FeedError(
        f"{found} is no image: expected a path, a Pillow image, or a uint8 array of height x width x 3",
        fix="feed ready arrays by name: {'pixel_values': array}",
    )


def _kind(config: Mapping[str, Any]) -> str:
    """`ViT` of `ViTImageProcessorFast`."""
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    for suffix in _KIND_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _resize(picture: Image, size: Size, config: Mapping[str, Any]) -> Image:
    height, width = size
    return picture.resize((width, height), resample=config.get("resample", 2))


def _shortest(picture: Image, edge: int) -> Size:
    """Height and width with the shorter one at `edge`, the ratio kept."""
    width, height = picture.size
    if width <= height:
        return int(edge * height / width), edge
    return edge, int(edge * width / height)


def _resize_plain(picture: Image, size: Mapping[str, int], config: Mapping[str, Any]) -> Image:
    if "shortest_edge" in size:
        return _resize(picture, _shortest(picture, size["shortest_edge"]), config)
    return _resize(picture, (size["height"], size["width"]), config)


def _resize_convnext(picture: Image, size: Mapping[str, int], config: Mapping[str, Any]) -> Image:
    """Below 384: resize to more than is wanted and crop the middle; else straight to a square."""
    edge = size["shortest_edge"]
    if edge >= 384:
        return _resize(picture, (edge, edge), config)
    larger = _resize(picture, _shortest(picture, int(edge / config.get("crop_pct", 224 / 256))), config)
    left, top = (larger.width - edge) // 2, (larger.height - edge) // 2
    return larger.crop((left, top, left + edge, top + edge))


def _resize_levit(picture: Image, size: Mapping[str, int], config: Mapping[str, Any]) -> Image:
    if "shortest_edge" not in size:
        return _resize_plain(picture, size, config)
    return _resize(picture, _shortest(picture, int(256 / 224 * size["shortest_edge"])), config)


_RESIZERS: Mapping[str, Callable[[Image, Mapping[str, int], Mapping[str, Any]], Image]] = {
    "ConvNext": _resize_convnext,
    "Levit": _resize_levit,
}
"""Processors that resize in a way of their own; the others take `_resize_plain`."""


def _center_crop(values: Array, size: Size) -> Array:
    """The middle of channels x height x width; black around it where the image is smaller."""
    height, width = size
    over_y, over_x = max(0, height - values.shape[1]), max(0, width - values.shape[2])
    before_y, before_x = -(-over_y // 2), -(-over_x // 2)
    values = np.pad(values, ((0, 0), (before_y, over_y - before_y), (before_x, over_x - before_x)))
    top, left = (values.shape[1] - height) // 2, (values.shape[2] - width) // 2
    return values[:, top : top + height, left : left + width]


def _per_channel(values: Sequence[float] | float | None) -> Array:
    if isinstance(values, int | float):
        values = [values] * 3
    return np.asarray(values if values is not None else _IMAGENET_STANDARD, np.float32).reshape(-1, 1, 1)
