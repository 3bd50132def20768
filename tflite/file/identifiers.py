"""Names of files as identifiers of C++ and Kotlin, so that generated code compiles with any name."""

from __future__ import annotations

import re

_CPP_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class compl
concept const consteval constexpr constinit const_cast continue co_await co_return co_yield decltype default delete do
double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try
typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq
"""
# Of C alone.
_C_KEYWORDS = "restrict typeof typeof_unqual"
# Functions of the C library, which compilers know and C++ headers declare.
_C_FUNCTIONS = """
abort abs acos asin atan atan2 atexit atof atoi atol bsearch ceil clearerr clock cos cosh ctime difftime div exit exp
fabs fclose feof ferror fflush fgetc fgets floor fmax fmin fmod fopen fprintf fputc fputs fread freopen frexp fscanf
fseek ftell fwrite getc getchar getenv gets gmtime isalnum isalpha isdigit islower isspace isupper labs ldexp ldiv
localeconv localtime log log10 log2 longjmp lround malloc calloc realloc memchr memcmp memmove memset mktime modf perror
pow printf putc putchar puts qsort raise rand read remove rename rewind rint round scanf setbuf signal sin sinh sprintf
sqrt srand strcat strchr strcmp strcpy strlen strncpy strstr strtod strtol system tan tanh time tmpfile tolower toupper
trunc ungetc write
"""
# Names that the generated C++ uses at file scope.
_CPP_NAMES = "main std tflite printf memcpy size_t int8_t uint8_t int16_t int32_t uint32_t NULL"
# Names that the generated Kotlin uses, in a kit and in a project; a class of the same name would hide them.
_KOTLIN_NAMES = """
Accelerator ActivityResultContracts AdapterView AndroidJUnit4 Answer Any Array ArrayAdapter Assert AssetManager
AutoCloseable Bitmap BitmapFactory Boolean Build BuiltinNpuAcceleratorProvider Bundle Button Byte ByteArray
ByteArrayInputStream ByteBuffer ByteOrder CameraFrame CameraSelector CompiledModel ComponentActivity Context
ContextCompat Double DoubleArray Environment Exception Executors ExifInterface Float FloatArray IllegalArgumentException
IllegalStateException ImageAnalysis ImageDecoder ImageProxy ImageView InstrumentationRegistry Int IntArray
LinkedBlockingQueue List Locale Log Long LongArray MainActivity Manifest Map Matrix Model OnItemSelectedListener Options
PackageManager Pair PickVisualMediaRequest Place Places PlacesTest Preview PreviewView ProcessCameraProvider R
Recognizer RunWith Runnable Set Short ShortArray Spinner String System TensorBuffer Test TextView ThreadPoolExecutor
Throwable TimeUnit Unit Uri View
"""
CPP_KEPT = frozenset((_CPP_KEYWORDS + _CPP_NAMES).split())
C_KEPT = CPP_KEPT | frozenset(f"{_C_KEYWORDS} {_C_FUNCTIONS}".split())
KOTLIN_KEPT = frozenset(_KOTLIN_NAMES.split())
_KOTLIN_FILES = frozenset(name.lower() for name in KOTLIN_KEPT)  # some file systems ignore case


def check_name(name: str) -> str:
    """``name``, or a ValueError unless it is valid for files and identifiers."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name) or not re.search(r"[A-Za-z0-9]", name):
        raise ValueError(
            "name must consist of letters (A to Z), digits, '_', '-' and '.', contain a letter or digit, and not start "
            "with '.'. "
            f"Received: name={name!r}"
        )
    return name


C_NAME_RULE = (
    "must be an identifier of C: a letter (A to Z), then letters, digits and single underscores, not at the end; no "
    "keyword of C or C++, and no function of the C library; at most 63 characters"
)
C_NAME_LENGTH = 63  # letters that a C99 compiler must tell apart; file names are made of it, too


def is_c_name(name: str) -> bool:
    """Whether ``name`` can begin the names of generated C and C++ code as it stands: ``C_NAME_RULE``."""
    return (
        re.fullmatch(r"[A-Za-z](_?[A-Za-z0-9])*", name) is not None
        and len(name) <= C_NAME_LENGTH
        and name not in C_KEPT
    )


def check_c_name(name: str) -> str:
    """``name``, or a ValueError unless ``is_c_name``."""
    if not is_c_name(name):
        raise ValueError(f"name {C_NAME_RULE}. Received: name={name!r}")
    return name


def c_identifier(name: str) -> str:
    """``name`` as a C and C++ identifier; a name reserved by the language or the generated code gets a prefix."""
    identifier = re.sub(r"__+", "_", re.sub(r"\W", "_", name, flags=re.ASCII))  # two underscores are reserved
    kept = identifier in CPP_KEPT or not identifier[0].isalpha()
    return f"model_{identifier.lstrip('_')}" if kept else identifier


def kotlin_class(name: str) -> str:
    """``name`` as the name of a Kotlin class: AndroidCpuInt8."""
    words = re.findall(r"[A-Za-z0-9]+", name)
    joined = "".join(word[0].upper() + word[1:].lower() for word in words)
    return f"Model{joined}" if joined.lower() in _KOTLIN_FILES or not joined[0].isalpha() else joined
