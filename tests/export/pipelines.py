"""What a newcomer types: a pipeline over a model folder and over its export. Run in the environment ``optimum``.

Called as ``pipelines.py TASK MODEL_FOLDER EXPORT_FOLDER INPUTS``; prints the answers of both as JSON. INPUTS are the
pipeline's named inputs, as JSON.
"""

import json
import sys

import optimum.onnxruntime as optimum
import transformers

CLASSES = {
    "text-classification": "SequenceClassification",
    "token-classification": "TokenClassification",
    "question-answering": "QuestionAnswering",
    "fill-mask": "MaskedLM",
    "feature-extraction": "FeatureExtraction",
}


def main(task: str, model: str, export: str, inputs: str) -> None:
    """Ask transformers for the folder, optimum for the fp32 file of the export."""
    given = json.loads(inputs)
    positional = [given.pop("text")] if "text" in given else []
    answers = []
    opened = getattr(optimum, f"ORTModelFor{CLASSES[task]}").from_pretrained(
        export, subfolder="onnx", file_name="model.onnx"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(export)
    for pipe in (
        transformers.pipeline(task, model=model, device="cpu"),
        optimum.pipeline(task, model=opened, tokenizer=tokenizer),
    ):
        answers.append(pipe(*positional, **given))
    print(json.dumps(answers, default=float))


main(*sys.argv[1:])
