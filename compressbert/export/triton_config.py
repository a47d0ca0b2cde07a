"""The part of Triton's `ModelConfig` message that an encoder needs: protobuf itself writes and reads `config.pbtxt`.

Field names and numbers are those of Triton's `model_config.proto`; fields that are not listed here are skipped when a
file is read.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped,unused-ignore]

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = (
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "STRING", "BF16",
)  # fmt: skip
_PACKAGE = "compressbert.triton"  # not Triton's own, which a client library in the same process may register


def _add(message: Any, name: str, number: int, kind: int, *, repeated: bool = False, of: str = "") -> None:
    label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, type=kind, label=label)
    if of:
        field.type_name = f".{_PACKAGE}.{of}"


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="compressbert/triton_config.proto", package=_PACKAGE, syntax="proto3"
    )
    types = file.enum_type.add(name="DataType")
    for number, name in enumerate(_TYPES):
        types.value.add(name=f"TYPE_{name}", number=number)
    kinds = file.enum_type.add(name="Kind")
    for number, name in enumerate(("AUTO", "GPU", "CPU", "MODEL")):
        kinds.value.add(name=f"KIND_{name}", number=number)
    for kind in ("ModelInput", "ModelOutput"):
        tensor = file.message_type.add(name=kind)
        _add(tensor, "name", 1, _FIELD.TYPE_STRING)
        _add(tensor, "data_type", 2, _FIELD.TYPE_ENUM, of="DataType")
        _add(tensor, "dims", 4 if kind == "ModelInput" else 3, _FIELD.TYPE_INT64, repeated=True)
        if kind == "ModelOutput":
            _add(tensor, "label_filename", 4, _FIELD.TYPE_STRING)
    group = file.message_type.add(name="ModelInstanceGroup")
    _add(group, "name", 1, _FIELD.TYPE_STRING)
    _add(group, "kind", 4, _FIELD.TYPE_ENUM, of="Kind")
    _add(group, "count", 2, _FIELD.TYPE_INT32)
    _add(group, "gpus", 3, _FIELD.TYPE_INT32, repeated=True)
    batching = file.message_type.add(name="ModelDynamicBatching")
    _add(batching, "preferred_batch_size", 1, _FIELD.TYPE_INT32, repeated=True)
    _add(batching, "max_queue_delay_microseconds", 2, _FIELD.TYPE_UINT64)
    config = file.message_type.add(name="ModelConfig")
    _add(config, "name", 1, _FIELD.TYPE_STRING)
    _add(config, "platform", 2, _FIELD.TYPE_STRING)
    _add(config, "backend", 17, _FIELD.TYPE_STRING)
    _add(config, "default_model_filename", 8, _FIELD.TYPE_STRING)
    _add(config, "max_batch_size", 4, _FIELD.TYPE_INT32)
    _add(config, "input", 5, _FIELD.TYPE_MESSAGE, repeated=True, of="ModelInput")
    _add(config, "output", 6, _FIELD.TYPE_MESSAGE, repeated=True, of="ModelOutput")
    _add(config, "instance_group", 7, _FIELD.TYPE_MESSAGE, repeated=True, of="ModelInstanceGroup")
    _add(config, "dynamic_batching", 11, _FIELD.TYPE_MESSAGE, of="ModelDynamicBatching")
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())

ModelConfig: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.ModelConfig"))


def type_name(number: int) -> str:
    """Triton's name of a data type, such as ``TYPE_INT64``."""
    return f"TYPE_{_TYPES[number]}" if number < len(_TYPES) else str(number)


def type_number(name: str) -> int:
    """The number of a data type, such as that of ``TYPE_INT64``."""
    return _TYPES.index(name.removeprefix("TYPE_"))
