#!/usr/bin/env python3
"""Makes small sources out of the public headers, which the build then compiles.

usage: make_sources.py INCLUDE_FOLDER OUTPUT_FOLDER
       make_sources.py --check INCLUDE_FOLDER

  header_NAME.c, .cc   includes one header alone and expands every macro of it
  layout.c             every struct that carries its size: the size first, no padding at the end
  functions.c, .cc     takes the address of every function that a header declares: each is there, with C's name
  nulls.c              calls every function with NULL and 0 for all that it takes (nulls.h says what must come of it)

--check prints a line, and ends with 1, for each option that other languages cannot set, and each header that belay.h lacks.
"""
import pathlib
import re
import sys

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
STRUCT = re.compile(r"typedef\s+struct\s+(belay_\w+)\s*\{(.*?)\}\s*\1\s*;", re.S)
FUNCTION = re.compile(r"\bBELAY_API\b[^;{}]*?\b(belay_\w+)\s*\(")
SIGNATURE = re.compile(r"\bBELAY_API\b([^;{}()]*?)\b(belay_\w+)\s*\(([^;{}]*?)\)\s*;", re.S)
MACRO = re.compile(r"^#\s*define\s+(BELAY_\w+)(?!\w|\()", re.M)
MEMBER = re.compile(r"(?:\(\s*\*\s*(\w+)\s*\)\s*\(.*\)|(\w+)\s*(?:\[[^\]]*\])?)\s*$", re.S)
FORBIDDEN = re.compile(r"\b(_?[Bb]ool|long|enum|FILE|va_list)\b|:\s*\d+\s*$|\[\s*\]")


def members(body):
    """Names and declarations of a struct's members."""
    for declaration in filter(None, (d.strip() for d in body.split(";"))):
        match = MEMBER.search(declaration)
        yield (match[1] or match[2]), declaration


def sized_structs(text):
    for match in STRUCT.finditer(text):
        fields = list(members(match[2]))
        if fields and fields[0][0] == "struct_size":
            yield match[1], fields


def write(path, text):
    if not path.exists() or path.read_text() != text:  # so that nothing is compiled again for nothing
        path.write_text(text)


def header_source(name, text):
    guard = f"BELAY_{name.upper()}_H"
    macros = [m for m in dict.fromkeys(MACRO.findall(text)) if m not in (guard, "BELAY_API")]
    lines = [f"#include <belay/{name}.h>", "", f"int belay_test_header_{name}(void);",
             f"int belay_test_header_{name}(void)", "{", "    int bad = 0;"]
    types = {t.upper() + "_INIT": t for t in re.findall(r"\}\s*(belay_\w+)\s*;", text)}
    for macro in macros:
        if macro in types:
            lines += ["    {", f"        {types[macro]} x = {macro};", "        bad += x.struct_size != sizeof x;", "    }"]
        else:
            lines += [f"    (void)({macro});"]
    return "\n".join(lines + ["    return bad;", "}", ""])


def layout_source(texts):
    lines = [f"#include <belay/{name}.h>" for name in texts] + ["", "#include <stddef.h>", ""]
    for text in texts.values():
        for name, fields in sized_structs(text):
            last = fields[-1][0]
            lines += [f'_Static_assert(offsetof({name}, struct_size) == 0, "{name}: its size comes first");',
                      f"_Static_assert(sizeof({name}) == offsetof({name}, {last}) + sizeof((({name} *)0)->{last}),",
                      f'               "{name}: no padding at the end, so plain sizeof is its size");']
    return "\n".join(lines + ["", "int belay_test_layout(void);", "int belay_test_layout(void)", "{", "    return 0;", "}", ""])


def functions_source(texts):
    names = sorted({f for text in texts.values() for f in FUNCTION.findall(text)})
    lines = [f"#include <belay/{name}.h>" for name in texts]
    lines += ["", "#include <stdio.h>", "", "typedef void (*any)(void);", "static const any all[] = {"]
    lines += [f"    (any){name}," for name in names]
    lines += ["};", "", "int main(void)", "{", "    size_t missing = 0;",
              "    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)", "        missing += !all[i];",
              '    printf("%d functions are declared\\n", (int)(sizeof all / sizeof all[0]));',
              "    return missing != 0;", "}", ""]
    return "\n".join(lines)


def kind_of(result):
    """What a function returns, as nulls.h tells it apart."""
    result = " ".join(result.split())
    if result == "void":
        return "NOTHING"
    if result == "belay_code":
        return "CODE"
    return "POINTER" if result.endswith("*") else "VALUE"


def split_parameters(text):
    """At the commas that are not inside a function pointer's own list."""
    parts, depth = [""], 0
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [] if text.strip() in ("", "void") else parts


def null_argument(function, parameter):
    """For an error it is the one that nulls.h gives, but where that is what the function is about; for a struct, an empty one."""
    parameter = " ".join(parameter.split())
    if not function.startswith("belay_error_") and re.match(r"belay_error \*\s*\w+$", parameter):
        return "err"
    match = re.match(r"(belay_\w+) \w+$", parameter)
    return f"({match[1]}){{0}}" if match and match[1] in ("belay_output",) else "0"


def nulls_source(texts):
    lines = [f"#include <belay/{name}.h>" for name in texts] + ["", '#include "nulls.h"', ""]
    calls = []
    for result, name, parameters in sorted(set(s for text in texts.values() for s in SIGNATURE.findall(text)), key=lambda s: s[1]):
        given = [null_argument(name, p) for p in split_parameters(parameters)]
        kind, call = kind_of(result), f"{name}({', '.join(given)})"
        body = {"NOTHING": f"{call};", "CODE": f"out->code = {call};", "POINTER": f"out->pointer = (const void *){call};",
                "VALUE": f"(void){call};"}[kind]
        lines += [f"static void call_{name}(belay_error *err, struct outcome *out) {{", "    (void)err;", "    (void)out;",
                  f"    {body}", "}"]
        calls.append(f'    {{"{name}", {kind}, {int("err" in given)}, call_{name}}},')
    return "\n".join(lines + ["", "static const struct null_call calls[] = {"] + calls + ["};", "", "int main(void) {",
                     "    return check_nulls(calls, sizeof calls / sizeof calls[0]);", "}", ""])


def read(include):
    return {f.stem: COMMENT.sub(" ", f.read_text(encoding="utf-8")) for f in sorted((include / "belay").glob("*.h"))}


def check(texts):
    bad = [f"belay/{name}.h: {struct}.{field}: '{' '.join(declaration.split())}'"
           for name, text in texts.items() for struct, fields in sized_structs(text)
           for field, declaration in fields if FORBIDDEN.search(declaration)]
    bad += [f"belay/belay.h does not include belay/{name}.h"
            for name in texts if name != "belay" and f"<belay/{name}.h>" not in texts["belay"]]
    print("\n".join(bad), end="\n" if bad else "")
    return 1 if bad else 0


def generate(texts, out):
    out.mkdir(parents=True, exist_ok=True)
    for suffix in ("c", "cc"):
        for name, text in texts.items():
            write(out / f"header_{name}.{suffix}", header_source(name, text))
        write(out / f"functions.{suffix}", functions_source(texts))
    write(out / "layout.c", layout_source(texts))
    write(out / "nulls.c", nulls_source(texts))
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        sys.exit(check(read(pathlib.Path(sys.argv[2]))))
    sys.exit(generate(read(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2])))
