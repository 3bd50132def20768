"""Stubs of Gradle and AGP with which the build files of an Android project compile as Kotlin."""

SOURCE = """
package gradle
import org.jetbrains.kotlin.gradle.dsl.JvmTarget
class Property<T> { fun set(value: T) {} }
enum class RepositoriesMode { FAIL_ON_PROJECT_REPOS }
class Repositories {
    fun google() {}
    fun mavenCentral() {}
    fun gradlePluginPortal() {}
}
class Management {
    val repositoriesMode = Property<RepositoriesMode>()
    fun repositories(block: Repositories.() -> Unit) {}
}
class RootProject { var name = "" }
class Settings {
    val rootProject = RootProject()
    fun pluginManagement(block: Management.() -> Unit) {}
    fun dependencyResolutionManagement(block: Management.() -> Unit) {}
    fun include(path: String) {}
}
open class Entry
class PluginLine { infix fun apply(apply: Boolean) {} }
class Plugins { fun alias(entry: Entry) = PluginLine() }
enum class JavaVersion { VERSION_17 }
class DefaultConfig {
    var applicationId: String? = null
    var minSdk: Int? = null
    var targetSdk: Int? = null
    var versionCode: Int? = null
    var versionName: String? = null
    var testInstrumentationRunner: String? = null
}
class CompileOptions {
    var sourceCompatibility = JavaVersion.VERSION_17
    var targetCompatibility = JavaVersion.VERSION_17
}
class AndroidResources { val noCompress: MutableCollection<String> = mutableListOf() }
class JniLibs { var useLegacyPackaging: Boolean? = null }
class Packaging { fun jniLibs(block: JniLibs.() -> Unit) {} }
class AndroidExtension {
    var namespace: String? = null
    var compileSdk: Int? = null
    fun defaultConfig(block: DefaultConfig.() -> Unit) {}
    fun compileOptions(block: CompileOptions.() -> Unit) {}
    fun androidResources(block: AndroidResources.() -> Unit) {}
    fun packaging(block: Packaging.() -> Unit) {}
}
class CompilerOptions { val jvmTarget = Property<JvmTarget>() }
class KotlinExtension { fun compilerOptions(block: CompilerOptions.() -> Unit) {} }
class Dependencies {
    fun implementation(entry: Entry) {}
    fun androidTestImplementation(entry: Entry) {}
}
class Project {
    fun plugins(block: Plugins.() -> Unit) {}
    fun android(block: AndroidExtension.() -> Unit) {}
    fun kotlin(block: KotlinExtension.() -> Unit) {}
    fun dependencies(block: Dependencies.() -> Unit) {}
}
"""
JVM_TARGET = "package org.jetbrains.kotlin.gradle.dsl\nenum class JvmTarget { JVM_17 }\n"


def catalog_source(catalog):
    """``libs`` as Gradle makes it of a version catalog: an alias ``a-b`` is ``libs.a.b``."""
    tree = {}
    plugins = {f"plugins-{name}": row for name, row in catalog["plugins"].items()}
    for name in {**catalog["libraries"], **plugins}:
        node = tree
        for part in name.split("-"):
            node = node.setdefault(part, {})

    def objects(node):
        return "".join(f"object {name} : Entry() {{ {objects(below)} }}\n" for name, below in node.items())

    return f"package gradle\nobject libs {{ {objects(tree)} }}\n"


def script_source(name, text):
    """A script as the body of a function, with its imports before it."""
    lines = text.splitlines()
    imports = [line for line in lines if line.startswith("import ")]
    body = "\n".join(line for line in lines if not line.startswith("import "))
    receiver = "Settings" if name.startswith("settings") else "Project"
    function = name.replace(".", "_").replace("/", "_")
    return "\n".join(["package gradle", *imports, f"fun {receiver}.{function}() {{", body, "}"])
