"""The audio tasks, a row each."""

from __future__ import annotations

from onnx_magic.engine.tasks.table import Head, TaskRow

AUDIO_TASKS = (
    TaskRow(
        name="automatic-speech-recognition",
        aliases=("asr", "speech-recognition", "automatic-speech-recognition-with-past"),
        auto_class="AutoModelForSpeechSeq2Seq",
        mapping="MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
        modality="audio",
        sample="sound",
        answer="the words that are spoken",
        meaning="token",
        graphs="encoder-decoder",
        others=(Head("AutoModelForCTC", "MODEL_FOR_CTC_MAPPING_NAMES"),),
    ),
)
