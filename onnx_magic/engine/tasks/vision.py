"""The vision tasks, a row each."""

from __future__ import annotations

from onnx_magic.engine.tasks.table import TaskRow

VISION_TASKS = (
    TaskRow(
        name="image-classification",
        aliases=(),
        auto_class="AutoModelForImageClassification",
        mapping="MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        modality="image",
        sample="image",
        answer="labels and scores",
        meaning="label",
    ),
)
