from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_magic.errors import FeedError, GraphFileError, UsageError
from onnx_magic.runtime.imaging import ImageProcessor, is_image, load_image_processor

Image = pytest.importorskip("PIL.Image", reason="pip install pillow")


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, channels), np.uint8)


CASES = [
    ("vit.image_processing_pil_vit", "ViTImageProcessorPil", {"size": {"height": 30, "width": 40}}),
    ("vit.image_processing_pil_vit", "ViTImageProcessorPil", {"size": {"height": 32, "width": 32}, "resample": 3}),
    ("deit.image_processing_pil_deit", "DeiTImageProcessorPil", {}),
    ("clip.image_processing_pil_clip", "CLIPImageProcessorPil", {"size": {"shortest_edge": 40}}),
    (
        "clip.image_processing_pil_clip",
        "CLIPImageProcessorPil",
        {"size": {"shortest_edge": 20}, "crop_size": {"height": 31, "width": 24}},
    ),
    ("convnext.image_processing_pil_convnext", "ConvNextImageProcessorPil", {"size": {"shortest_edge": 64}}),
    ("convnext.image_processing_pil_convnext", "ConvNextImageProcessorPil", {"size": {"shortest_edge": 384}}),
    ("levit.image_processing_pil_levit", "LevitImageProcessorPil", {}),
    ("mobilevit.image_processing_pil_mobilevit", "MobileViTImageProcessorPil", {"size": {"shortest_edge": 60}}),
    ("mobilenet_v2.image_processing_pil_mobilenet_v2", "MobileNetV2ImageProcessorPil", {}),
    ("beit.image_processing_pil_beit", "BeitImageProcessorPil", {"do_center_crop": True}),
    ("vit.image_processing_pil_vit", "ViTImageProcessorPil", {"do_resize": False, "do_normalize": False}),
    ("vit.image_processing_pil_vit", "ViTImageProcessorPil", {"do_rescale": False, "image_mean": [9.0] * 3}),
]


@pytest.mark.parametrize(("module", "name", "options"), CASES)
@pytest.mark.parametrize("shape", [(48, 36), (37, 61), (300, 257)])
def test_same_pixels_as_transformers(
    tmp_path: Path, module: str, name: str, options: dict[str, Any], shape: tuple[int, int]
) -> None:
    import importlib

    theirs = getattr(importlib.import_module(f"transformers.models.{module}"), name)(**options)
    theirs.save_pretrained(tmp_path)
    ours = load_image_processor(tmp_path)
    assert ours is not None and ours.notes == ()
    image = picture(*shape)
    expected = theirs(images=[Image.fromarray(image)], return_tensors="np")["pixel_values"]
    found = ours([image])
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5


def test_other_means_give_other_pixels() -> None:
    image = picture(8, 8)
    one, two = (ImageProcessor({"size": 8, "image_mean": [mean] * 3})(image) for mean in (0.5, 0.4))
    assert np.abs(one - two).max() > 0.1


def test_a_number_alone_is_a_square_or_the_shortest_edge() -> None:
    image = picture(40, 20)
    assert ImageProcessor({"size": 10, "feature_extractor_type": "ViTFeatureExtractor"})(image).shape == (1, 3, 10, 10)
    clip = {"size": 10, "image_processor_type": "CLIPImageProcessorFast"}
    assert ImageProcessor(clip)(image).shape == (1, 3, 20, 10)


def test_a_path_a_picture_and_an_array_give_the_same(tmp_path: Path) -> None:
    image = picture(20, 30)
    Image.fromarray(image).save(tmp_path / "one.png")
    processor = ImageProcessor({"size": 16})
    expected = processor(image)
    for given in (Image.fromarray(image), tmp_path / "one.png", str(tmp_path / "one.png"), [image]):
        assert np.array_equal(processor(given), expected)
    assert processor([image, image]).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures_become_rgb(channels: int) -> None:
    assert ImageProcessor({"size": 16})(picture(20, 30, channels)).shape == (1, 3, 16, 16)


def test_a_photo_that_lies_on_its_side_is_set_upright(tmp_path: Path) -> None:
    image = Image.fromarray(picture(10, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "photo.png", exif=exif)
    processor = ImageProcessor({"do_resize": False})
    assert processor(tmp_path / "photo.png").shape == (1, 3, 20, 10)


def test_a_kind_without_a_rule_is_said() -> None:
    assert "SamImageProcessor" in ImageProcessor({"size": 8, "image_processor_type": "SamImageProcessor"}).notes[0]


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    processor = ImageProcessor({"size": 16})
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(FeedError, match="no image that Pillow reads"):
        processor(tmp_path / "text.png")
    with pytest.raises(FeedError, match="no such image file"):
        processor("nowhere.png")
    with pytest.raises(FeedError, match=r"float32\[3, 8, 8\] is no image"):
        processor(np.zeros((3, 8, 8), np.float32))


def test_sizes_that_differ_do_not_make_a_batch() -> None:
    with pytest.raises(FeedError, match="different sizes"):
        ImageProcessor({"do_resize": False})([picture(8, 8), picture(8, 9)])


def test_only_pictures_are_taken_for_pictures() -> None:
    assert is_image(picture(4, 4)) and is_image(picture(4, 4)[..., 0]) and is_image(Image.new("L", (2, 2)))
    assert not is_image(np.zeros((1, 3, 4, 4), np.uint8)) and not is_image(np.zeros((4, 4, 3), np.float32))
    assert not is_image("a.png")


def test_a_folder_without_or_with_a_broken_config(tmp_path: Path) -> None:
    assert load_image_processor(tmp_path) is None
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"size": {"longest_edge": 4}}))
    with pytest.raises(GraphFileError, match="size"):
        load_image_processor(tmp_path)
    file.write_text("{")
    with pytest.raises(GraphFileError, match="is not JSON"):
        load_image_processor(tmp_path)


def test_without_pillow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match="pip install pillow"):
        ImageProcessor({"size": 4})("a.png")
