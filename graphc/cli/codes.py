"""What every diagnostic's code means: the words of `graphc explain G203`.

One entry a code; a test finds a code that is raised anywhere and has no entry, and an entry that nothing raises.
"""

from __future__ import annotations

from dataclasses import dataclass

FAMILIES = {
    "G1": "composition: names, arguments, parameters",
    "G2": "shapes and types",
    "G3": "graphs, text and files",
    "G4": "gradients and passes",
    "G5": "compilers and devices",
    "G6": "execution",
}


@dataclass(frozen=True, slots=True)
class Code:
    """A code's meaning in a sentence or two, an example that raises it, and what to do."""

    title: str
    meaning: str
    example: str
    fix: str


CODES: dict[str, Code] = {
    # Composition
    "G101": Code(
        "unknown operator, initializer or optimizer",
        "No operator (initializer, optimizer, memory strategy) has this name.",
        "mx.sym.FullyConected(data, num_hidden=10)",
        "Take one of the close matches, or list the names with dir(mx.sym).",
    ),
    "G102": Code(
        "unknown parameter",
        "The operator has no parameter of this name.",
        "mx.sym.Activation(data, act_typ='relu')",
        "Correct the name; help(mx.sym.Activation) lists all parameters.",
    ),
    "G103": Code(
        "missing parameter",
        "A parameter without a default was left out.",
        "mx.sym.FullyConnected(data)                       # num_hidden is missing",
        "Give it.",
    ),
    "G104": Code(
        "wrong value of a parameter",
        "A parameter's value is not one of those it may have.",
        "mx.sym.Activation(data, act_type='swishh')",
        "Choose one of the values that the message lists.",
    ),
    "G105": Code(
        "too few, too many or wrong things",
        "A call got fewer inputs than it needs, or something that is neither a Symbol nor a Graph.",
        "graphc.compile([net])",
        "Give the inputs that the message names.",
    ),
    "G106": Code(
        "argument does not fit",
        "An argument is unknown, given twice (by position and by name), or one too many.",
        "mx.sym.FullyConnected(data, data=x, num_hidden=10)",
        "Leave one of the two out, or correct the name.",
    ),
    "G107": Code(
        "name used twice",
        "Two different variables of one symbol have the same name, so a value by that name would be ambiguous.",
        "mx.sym.Variable('w') + mx.sym.Variable('w')",
        "Make the variable once and use it in both places, or give the second one a name of its own.",
    ),
    "G108": Code(
        "which output?",
        "A symbol with several outputs was used as one tensor, or an output was chosen that it does not have.",
        "mx.sym.Activation(mx.sym.SliceChannel(x, num_outputs=2), act_type='relu')",
        "Choose an output by index or name: s[0], s['slice_output0'].",
    ),
    "G109": Code(
        "not a symbol",
        "An argument that must be a symbol is a plain value, or a parameter that must be a plain value is a symbol.",
        "mx.sym.FullyConnected(numpy_array, num_hidden=10)",
        "Declare mx.sym.Variable('data') and give the array when the program runs.",
    ),
    "G110": Code(
        "symbol used as a truth value",
        "A symbol stands for numbers that do not exist yet, so `if symbol:` and `not symbol` have no answer.",
        "if net == other: ...",
        "Compare names, or put the choice into the graph with mx.sym.where(condition, x, y).",
    ),
    "G111": Code(
        "empty group",
        "A group of no symbols has no outputs and computes nothing.",
        "mx.sym.Group([])",
        "Put at least one symbol in.",
    ),
    "G112": Code(
        "name or attribute is no text",
        "Names are words, and attributes are strings.",
        "mx.sym.Variable(3)",
        "Give a string.",
    ),
    # Shapes and types
    "G201": Code(
        "a primitive's type rule is broken",
        "A primitive of the Graph IR got operands or attributes that its rule forbids.",
        "builder.add(x, y)                                 # f32[4] and f64[4]",
        "Cast or reshape the operand that the message names.",
    ),
    "G202": Code(
        "shapes do not broadcast",
        "Two shapes differ at an axis, and neither is 1 there.",
        "builder.add(x, y)                                 # f32[4,3] and f32[4,2]",
        "Reshape one of the two, or reduce it first.",
    ),
    "G203": Code(
        "shapes do not fit an operator",
        "The shape of an argument breaks the operator's rule. The rows below the message show what each argument is, "
        "where it comes from, and what was expected.",
        "w = mx.sym.Variable('w', shape=(10, 100))\n"
        "mx.sym.FullyConnected(x, weight=w, num_hidden=10)   # x is (64, 128)",
        "Change the shape that the message marks, or leave it out and let it be inferred.",
    ),
    "G204": Code(
        "update of another type",
        "The new value of a state must have the state's own shape and element type.",
        "builder.update(momentum, builder.sum(momentum))",
        "Reshape or cast the new value.",
    ),
    "G205": Code(
        "shape unknown or different",
        "A variable's shape is not given and does not follow from the others, or a value of another shape was given.",
        "net.simple_bind(mx.cpu())                         # without data=(64, 784)",
        "Give the shape: data=(64, 784); on the command line --shape data=64,784.",
    ),
    "G206": Code(
        "types do not fit",
        "Element types of an operator's arguments differ, or a parameter or state has a named dimension.",
        "mx.sym.dot(a, b)                                  # a is float16, b is float32",
        "Cast one of them; only data inputs may have named dimensions.",
    ),
    "G207": Code(
        "not a shape",
        "A shape holds something that is neither a size nor a name: a NaN, a fraction, a negative number.",
        "mx.sym.Variable('w', shape=(float('nan'), 3))",
        "Write integers, 0 for a size to be inferred, or names: ('N', 784).",
    ),
    "G208": Code(
        "not an element type",
        "graphc has no element type of this name.",
        "mx.sym.Variable('w', dtype='complex64')",
        "Use float32, float64, float16, bfloat16, int8, uint8, int16, int32, int64 or bool.",
    ),
    "G209": Code(
        "shape or type of no argument",
        "A shape or type was given for a name that the symbol does not have.",
        "net.infer_shape(dta=(64, 784))",
        "Correct the name; list_arguments() lists them.",
    ),
    # Graphs, text, files
    "G301": Code(
        "unknown primitive",
        "The Graph IR has no primitive of this name.",
        "%y: f32[4] = tanhh(%x)",
        "Take a close match; docs/architecture.md lists all primitives.",
    ),
    "G302": Code(
        "input name taken",
        "Two inputs or values of a graph have the same name.",
        "builder.input('x', t); builder.input('x', t)",
        "Give each its own name.",
    ),
    "G303": Code(
        "value undefined or of another type",
        "A node reads a value that no node before it makes, or under a type that it does not have.",
        "%y: f32[4] = tanh(%z)                              # no %z above",
        "Define the value above the node, with the same type.",
    ),
    "G304": Code(
        "value defined twice",
        "A name stands for one value in a graph.",
        "%y: f32[4] = tanh(%x)\n%y: f32[4] = exp(%x)",
        "Rename one of the two.",
    ),
    "G305": Code(
        "node breaks its primitive's declaration",
        "A node's attributes or result types are not those that its primitive declares for these operands.",
        "%y: f32[5] = tanh(%x)                              # x is f32[4]",
        "Write the type and the attributes that the message states.",
    ),
    "G306": Code(
        "wrong update",
        "An update names no input, names one twice, or has another type than the input.",
        "... update (%y=%z)                                 # %y is no input",
        "Update an input, once, with a value of its type.",
    ),
    "G307": Code(
        "empty graph",
        "The graph has no output and no update, so it computes nothing.",
        "builder.finish({})",
        "Name at least one output.",
    ),
    "G308": Code(
        "two outputs of one name",
        "Callers could not tell the outputs apart.",
        "graph g(%x: f32[4]) -> (y=%a, y=%b) { ... }",
        "Rename one of the two.",
    ),
    "G309": Code(
        "dimension that no input has",
        "A named dimension occurs in the graph and in no input's shape, so its size would never be known.",
        "graph g(%x: f32[4]) -> (%y) {\n  %y: f32[N] = full() {...}\n}",
        "Use the name in the shape of an input, or write a number.",
    ),
    "G310": Code(
        "text does not parse",
        "A .graph text or a .json model file does not follow its format; the message shows where.",
        "%y: f32[4] = tanh(%x",
        "Correct the line that the message marks.",
    ),
    "G311": Code(
        "cycle",
        "Operators of a saved model need each other's outputs, so none can be first.",
        '{"nodes": [{"op": "tanh", "name": "a", "inputs": [[0, 0, 0]]}], ...}',
        "Save the model again from the program that declared it.",
    ),
    "G312": Code(
        "damaged model file",
        "A saved model lacks a part or points to a node that it does not hold.",
        "mx.sym.load_json('{\"nodes\": 3}')",
        "Write it again with Symbol.save.",
    ),
    "G320": Code(
        "model file does not parse",
        "Python cannot read the file: a syntax error at the line shown.",
        "net = mx.sym.FullyConnected(data, num_hidden=10",
        "Correct that line.",
    ),
    "G321": Code(
        "model file fails",
        "The file, or the function addressed in it, raised an error; the line is the last one of yours on the way.",
        "net = layers[3]                                    # IndexError",
        "Correct that line; running the file with python shows the whole traceback.",
    ),
    "G322": Code(
        "no model at this address",
        "The attribute is neither a Symbol nor a Graph nor a function without required arguments that returns one.",
        "graphc run mlp.py:shapes",
        "Address the Symbol or Graph itself, or give the function's arguments defaults.",
    ),
    "G323": Code(
        "file without a model",
        "The file defines no Symbol and no Graph.",
        "graphc run empty.py",
        "Assign one to a name, or address a function that returns one: file.py:build.",
    ),
    "G324": Code(
        "file cannot be read",
        "A .graph, parameter or input file cannot be read, or is not of the format that its name says.",
        "graphc run net.py --params broken.safetensors",
        "Write it again; parameters are safetensors, inputs .npy, .npz or .safetensors.",
    ),
    "G325": Code(
        "`shapes` is no table of shapes",
        "The model file's `shapes` must map names of data inputs to tuples of integers and names.",
        "shapes = {'data': 64}",
        'Write shapes = {"data": (64, 784)}.',
    ),
    # Gradients and passes
    "G401": Code(
        "a pass failed",
        "A pass of graphc failed or made a graph that breaks a rule. This is a defect of graphc, not of your model.",
        "",
        "Report it with the folder that the message names; optimization level 0 may go around it.",
    ),
    "G402": Code(
        "no gradient",
        "A primitive between an output and a parameter has no gradient.",
        "mx.sym.argmax(net, axis=1)                         # under a loss",
        "Stop the gradient there with BlockGrad, or take another operator.",
    ),
    "G403": Code(
        "wrong request for a gradient",
        "A gradient was asked for a name that the graph lacks, for integers, with an unknown request, or out of order.",
        "executor.backward()                                # before forward(is_train=True)",
        "Use write, add or null for arguments of floating-point type, after a forward in training.",
    ),
    "G404": Code(
        "nothing to train",
        "The model has no parameters, so there are no gradients to take.",
        "graphc dump softmax.graph --train",
        "Leave --train out, or declare parameters.",
    ),
    "G405": Code(
        "kernel is not well formed",
        "A fused kernel breaks a rule of the Kernel IR: a scalar used before it is defined, an index with too few "
        "dimensions, a store of another element type. Fusion made a mistake, not your model.",
        "y: f32 = exp(x)     where x is defined further down",
        "Report it with the output of `graphc dump MODEL --stage graph`.",
    ),
    "G406": Code(
        "no template on this target",
        "The target computes this operator step by step, and for that a size must be known that is symbolic here.",
        "graphc.compile(rnn, shapes={'data': ('T', 32, 64)}, target='gpu')",
        "Give the size as a number; on the CPU it may be symbolic.",
    ),
    # Toolchain and devices
    "G501": Code(
        "no C++ compiler",
        "Neither g++ nor clang++ (nor the command in CXX) works here.",
        "",
        "Install g++ or clang++, or name one in CXX; graphc doctor shows what was tried.",
    ),
    "G502": Code(
        "the compiler failed",
        "The C++ compiler refused a file; the message quotes it and names the operator it was building.",
        "",
        "Check the compiler with graphc doctor; for a compiler that works this is a defect of graphc: report it.",
    ),
    "G503": Code(
        "no space for the cache",
        "The disk that holds the cache of compiled programs is full; nothing half-written was left.",
        "",
        "Free some space, or name another folder in GRAPHC_CACHE_DIR.",
    ),
    "G505": Code(
        "no such device",
        "The machine does not have the device, or its driver cannot be used.",
        "graphc run net.py --target gpu                     # without a GPU",
        "Use cpu, or see graphc doctor.",
    ),
    "G506": Code(
        "unknown device or target",
        "There is no device type or target of this name.",
        "graphc.compile(net, target='tpu')",
        "Use cpu, gpu or reference.",
    ),
    "G507": Code(
        "choices that cannot be followed",
        "A file of choices is missing or holds what is no choice, a tuning budget is no time, or the target has none.",
        "graphc.compile(net, choices='other-format.txt')",
        "Write the file with graphc tune, or compile(..., tune='30s', choices='net.choices').",
    ),
    # Execution
    "G601": Code(
        "wrong arguments",
        "An input, parameter or output is missing, unknown, or given twice.",
        "program(dta=x)",
        "Give the inputs that the message lists, by name or in that order.",
    ),
    "G602": Code(
        "wrong shape",
        "An array does not have the declared shape, or the size of a named dimension is missing or contradicts itself.",
        "program(data=x)                                    # x is (32, 784), data is (64, 784)",
        "Give an array of the declared shape; declare ('N', 784) to run any batch size.",
    ),
    "G603": Code(
        "no values yet",
        "Parameters have no values before the first call.",
        "graphc.compile(net, shapes=...)(data=x)",
        "initialize(Xavier()), set_states({...}) or compile(..., parameters={...}).",
    ),
    "G604": Code(
        "array does not fit",
        "An NDArray cannot be read, reshaped or written as asked.",
        "mx.nd.zeros((2, 3)).reshape((4, 2))",
        "Use shapes of as many elements.",
    ),
    "G605": Code(
        "wrong element type",
        "An array has another element type than its input.",
        "program(data=x.double())                           # data is f32",
        "Convert it once before the loop, for example x.to(torch.float32).",
    ),
    "G606": Code(
        "out of memory",
        "The arena for intermediate tensors does not fit in memory.",
        "",
        "Use smaller inputs; graphc dump MODEL --stage plan lists every tensor.",
    ),
    "G607": Code(
        "array on another device",
        "An input lies on another device than the program runs on.",
        "program(data=x.cuda())                             # compiled for cpu",
        "Move it once before the loop.",
    ),
    "G608": Code(
        "no memory budget",
        "A memory budget is an amount of memory, or a fraction of what the plain plan takes.",
        "graphc.compile(step, memory_budget='2 Gigs')",
        "Write bytes (2_000_000_000), a size ('2GB', '512MiB') or a fraction (0.25, '25%').",
    ),
    "G609": Code(
        "memory budget too small",
        "Even when the backward pass makes almost everything again, the program takes more than the memory budget.",
        "graphc.compile(step, memory_budget='1MB')",
        "Take at least the budget that the message names, smaller inputs, or fewer parameters.",
    ),
}
