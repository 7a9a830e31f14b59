"""Write JavaScript for the web."""

from collections.abc import Mapping
from typing import Any

from .common import Snippet, SnippetModel, camel_case, native_type, padding_value, quoted_list


def javascript_snippet(model: SnippetModel) -> Snippet:
    arrays = {"int64": "BigInt64Array", "int32": "Int32Array"}
    names = [camel_case(t.name) for t in model.inputs]
    given = ", ".join([names[0], *(f"{n} = undefined" for n in names[1:])])
    feeds = "\n".join(
        f"      {t.name}: tensor({n}{'' if i == 0 else f' ?? {names[0]}.map(() => {padding_value(t)})'}, "
        f'"{t.dtype}", {native_type(t.dtype, arrays)}, shape),'
        for i, (t, n) in enumerate(zip(model.inputs, names, strict=True))
    )
    length = f"{names[0]}.length / choices" if model.choices else f"{names[0]}.length"
    shape = "[1, choices, length]" if model.choices else "[1, length]"
    config: dict[str, Any] = {}
    for key, value in model.config.items():
        *path, last = key.split(".")
        inner = config
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    text = f"""{model.head()}
import * as ort from "onnxruntime-web";

export const MAX_LENGTH = {model.longest};
export const OUTPUTS = [{quoted_list([o.name for o in model.outputs])}];
export const LABELS = [{quoted_list(model.labels)}];

export class Model {{
  constructor(session) {{
    this.session = session;
  }}

  /** `source`: where the file lies, or its bytes (Uint8Array). */
  static async open(source = new URL("./{model.artifact}", import.meta.url).href) {{
    return new Model(await ort.InferenceSession.create(source, {{ extra: {_javascript_object(config)} }}));
  }}

  /** Token ids of one text, as an array of numbers → outputs by name, {{ values: Float32Array, shape: number[] }}. */
  async run({{ {given}{", choices = 2" if model.choices else ""} }}) {{
    const length = {length};
    if (!(length >= 1 && length <= MAX_LENGTH)) {{
      throw new RangeError(`1 to ${{MAX_LENGTH}} tokens are taken, not ${{length}}`);
    }}
    const shape = {shape};
    const results = await this.session.run({{
{feeds}
    }});
    return Object.fromEntries(OUTPUTS.map((name) => [name, {{ values: results[name].data, shape: results[name].dims }}]));
  }}
}}

function tensor(values, dtype, Kind, shape) {{
  return new ort.Tensor(dtype, Kind.from(dtype === "int64" ? Array.from(values, BigInt) : values), shape);
}}
"""
    return Snippet("index.js", text, ("onnxruntime-web",))


def _javascript_object(value: Mapping[str, Any]) -> str:
    inside = ", ".join(
        f"{quoted_list([k])}: {_javascript_object(v) if isinstance(v, Mapping) else quoted_list([str(v)])}"
        for k, v in value.items()
    )
    return f"{{ {inside} }}" if inside else "{}"
