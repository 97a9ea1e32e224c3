"""Dotted names that a person should look at, and why; and the names beside them that are harmless.

In the table "sys.*" stands for whatever is in sys but not for sys itself, "pickle" for both. The longest entry that
fits decides. None: harmless.
"""


def words(text: str) -> frozenset[str]:
    """The words of a text, for tables that are easier to read without quotation marks."""
    return frozenset(text.split())


PROCESS = "starts, ends or controls a process"
THREAD = "leaves something running beside the notebook"
NETWORK = "opens a network connection"
PICKLE = "unpickles, which can run anything"
FILE = "opens or changes a file"
ENVIRONMENT = "reads or changes the environment"
INSIDES = "reaches into Python's insides"
NOTEBOOK = "reaches into the notebook's own machinery"
TORCH = "reaches into PyTorch's insides"
HIDDEN = "decodes hidden text"
RUNS_TEXT = "runs text as code"
END = "ends the kernel"
CHECK = "reads the course's checks"
FINISHED = "uses the finished function"
STANDS_IN = "lets the finished function stand in"
PATCH = "patches other code"

_TABLE = {
    PROCESS: "os.* subprocess multiprocessing pty resource psutil torch.multiprocessing torch.distributed torch.hub "
    "torch.utils.cpp_extension ctypes cffi _ctypes mmap fcntl numpy.ctypeslib numpy.f2py torch.ops.* "
    "torch.classes.* torch._inductor torch.cuda._compile_kernel sys.setrecursionlimit numba cython triton.*",
    THREAD: "threading _thread concurrent asyncio atexit signal sched weakref.finalize gc.callbacks faulthandler",
    NETWORK: "socket ssl urllib urllib3 requests httpx http aiohttp ftplib smtplib telnetlib socketserver xmlrpc "
    "websocket websockets paramiko webbrowser huggingface_hub datasets zmq",
    PICKLE: "pickle cPickle _pickle dill cloudpickle joblib shelve marshal copyreg torch.load torch.package "
    "torch.jit.load torch.export.load torch.serialization",
    FILE: "shutil glob tempfile fileinput sqlite3 dbm io.open io.open_code io.FileIO codecs.open zipfile tarfile "
    "os.listdir os.walk os.scandir os.remove os.unlink os.rename os.replace os.mkdir os.makedirs os.rmdir "
    "os.removedirs os.open os.fdopen os.read os.write os.chdir os.symlink os.link os.chmod os.chown os.stat "
    "os.truncate os.path.* os.dup os.dup2 os.close torch.save torch.from_file "
    "numpy.load numpy.DataSource numpy.lib.format numpy.lib.npyio numpy.save numpy.savez numpy.savez_compressed "
    "numpy.savetxt numpy.loadtxt numpy.genfromtxt numpy.fromfile "
    "numpy.memmap safetensors.torch.save_file safetensors.torch.load_file pocketgpt.files gzip.open bz2.open lzma.open",
    ENVIRONMENT: "os.environ os.environb os.getenv os.putenv os.unsetenv sys.path sys.executable sys.prefix site "
    "sysconfig getpass pwd",
    INSIDES: "sys.* gc.* inspect.* importlib imp runpy pkgutil zipimport builtins __builtins__ codeop linecache "
    "types.FunctionType types.CodeType types.ModuleType types.FrameType types.CellType operator.attrgetter "
    "operator.methodcaller traceback.walk_stack traceback.StackSummary typing.get_type_hints typing.ForwardRef "
    "sitecustomize usercustomize bdb tracemalloc",
    RUNS_TEXT: "code doctest trace cProfile.run cProfile.runctx profile.run profile.runctx pdb.run pdb.runeval",
    NOTEBOOK: "IPython ipykernel jupyter_client jupyter_core nbformat nbclient nbconvert nbval traitlets tornado "
    "contextlib.redirect_stdout contextlib.redirect_stderr comm",
    PATCH: "unittest.mock mock pytest _pytest forbiddenfruit wrapt warnings.showwarning gorilla",
    TORCH: "torch._C torch._ops torch._tensor torch.overrides torch.library torch.utils._python_dispatch torch._dynamo "
    "torch._decomp torch._refs torch._subclasses torch.utils._device",
    HIDDEN: "base64 binascii codecs.decode codecs.encode zlib.decompress zlib.decompressobj bz2.decompress "
    "lzma.decompress gzip.decompress unicodedata.lookup",
    END: "sys.exit",
    CHECK: "pocketgpt.grading pocketgpt.course.* pocketgpt.course.checking.check.* pocketgpt.course.lab.check.* "
    "pocketgpt.course.lab.finished.*",
    FINISHED: "pocketgpt.course.lab.transplanting.*",
    None: "os.cpu_count os.process_cpu_count os.getpid os.sep os.linesep os.name os.getcwd os.urandom os.PathLike "
    "os.path os.path.join os.path.basename os.path.dirname os.path.splitext os.path.sep sys.version sys.version_info "
    "sys.platform sys.maxsize sys.float_info sys.int_info sys.getsizeof sys.byteorder sys.argv sys.stdout sys.stderr "
    "sys.getrecursionlimit sys.maxunicode sys.getdefaultencoding sys.implementation sys.intern sys.getrefcount "
    "gc.collect gc.disable gc.enable inspect.signature inspect.getdoc inspect.cleandoc inspect.isfunction "
    "inspect.isclass inspect.Parameter urllib.parse IPython.display IPython.__version__ "
    "pocketgpt.course pocketgpt.course.figures pocketgpt.course.lab.controls pocketgpt.course.lab.heads "
    "pocketgpt.course.checking.check pocketgpt.course.lab "
    "pocketgpt.course.lab.check pocketgpt.course.lab.yours pocketgpt.course.lab.sliders pocketgpt.course.lab.HEADS "
    "pocketgpt.course.lab.model_map pocketgpt.course.lab.attention_weights pocketgpt.course.lab.before_and_after "
    "pocketgpt.course.lab.pocket_model pocketgpt.course.lab.pocket_tokenizer pocketgpt.course.lab.transplant "
    "pocketgpt.course.ch00_start_here.figures pocketgpt.course.ch01_tokens.figures "
    "pocketgpt.course.ch02_attention.figures pocketgpt.course.ch03_scaling.figures "
    "pocketgpt.course.lab.finished pocketgpt.course.lab.finished.yours pocketgpt.course.lab.transplanting "
    "pocketgpt.course.lab.transplanting.attention_weights pocketgpt.course.lab.transplanting.before_and_after "
    "pocketgpt.course.lab.transplanting.pocket_model pocketgpt.course.lab.transplanting.pocket_tokenizer "
    "pocketgpt.course.lab.transplanting.transplant",
    "shows a page with code of its own": "IPython.display.Javascript IPython.display.IFrame "
    "IPython.display.display_javascript",
}
NAMES = {name: reason for reason, names in _TABLE.items() for name in names.split()}
LONGEST = max(name.count(".") for name in NAMES) + 2  # parts of a name that the table can tell apart
# What is under these is not theirs alone: torch.os.system is os.system.
EVERYWHERE = words(
    "os sys subprocess builtins importlib ctypes socket threading shutil pickle multiprocessing gc inspect"
)
# What a notebook of the course calls these, imported or not.
SHORT = {"np": "numpy", "F": "torch.nn.functional", "nn": "torch.nn", "plt": "matplotlib.pyplot"}

BUILTINS = {
    **dict.fromkeys(("exec", "eval", "compile"), RUNS_TEXT),
    **dict.fromkeys(("__import__", "__loader__", "__spec__", "__builtins__", "breakpoint"), INSIDES),
    "open": FILE,
    "exit": END,
    "quit": END,
    "get_ipython": NOTEBOOK,
}
ATTRIBUTES = {
    **dict.fromkeys(
        words(
            "__globals__ __code__ __closure__ __builtins__ __subclasses__ __bases__ __base__ __mro__ __loader__ "
            "__spec__ __getattribute__ __setattr__ __delattr__ __self__ __func__ __wrapped__ __reduce__ "
            "__reduce_ex__ __import__ __kwdefaults__ __defaults__ f_globals f_locals f_back f_builtins f_code "
            "tb_frame gi_frame cr_frame ag_frame cell_contents _getframe __subclasshook__ __traceback__"
        ),
        INSIDES,
    ),
    **dict.fromkeys(
        words(
            "read_text write_text read_bytes write_bytes open iterdir glob rglob unlink mkdir rmdir touch symlink_to "
            "hardlink_to read_pickle to_pickle tofile"
        ),
        FILE,
    ),
    **dict.fromkeys(words("input_transformers_cleanup input_transformers_post ast_transformers user_ns"), NOTEBOOK),
    **dict.fromkeys(words("run_line_magic run_cell_magic set_custom_exc run_cell"), NOTEBOOK),
}
# Defined in a class, these change what comparisons, isinstance and PyTorch see.
METHODS = words(
    "__eq__ __ne__ __class__ __instancecheck__ __subclasscheck__ __torch_function__ __torch_dispatch__ "
    "__getattribute__ __del__ __deepcopy__ __reduce__ __reduce_ex__ __array_function__ __array_ufunc__"
)

HARMLESS_MAGICS = words(
    "time timeit matplotlib capture pdb who whos who_ls precision autoreload pinfo pinfo2 pdoc prun memit memray "
    "mprun lprun xmode pprint pylab lsmagic magic quickref aimport colors automagic pwd latex markdown"
)
READ_ON = words("time timeit capture prun memit")  # their line and body are Python
# A cell of one line whose first word is one of these runs as a magic without %.
AUTOMATIC_MAGICS = words(
    "sx system sc run load loadpy ls ll la lf lx ldir cat cp mv rm rmdir mkdir ln cd pushd popd man less more pip "
    "conda mamba uv edit ed save macro logstart pycat pfile psource env set_env config load_ext reload_ext store alias "
    "rerun recall history hist notebook debug reset reset_selective killbgscripts gui tb bookmark"
)


def reason_for(name: str) -> str | None:
    """Why a dotted name, as imported or spelled out, should be looked at; None if there is no need."""
    parts = name.split(".")
    for start in range(len(parts) - 1, 0, -1):
        module = parts[start].lstrip("_")
        if module in EVERYWHERE and (reason := _longest([module, *parts[start + 1 : start + LONGEST]])):
            return reason
    return _longest(parts)


def _longest(parts: list[str]) -> str | None:
    for end in range(min(len(parts), LONGEST), 0, -1):
        name = ".".join(parts[:end])
        if end < len(parts) and f"{name}.*" in NAMES:
            return NAMES[f"{name}.*"]
        if name in NAMES:
            return NAMES[name]
    return None
