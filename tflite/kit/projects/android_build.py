"""The build files, manifest and resources of an Android project; see ``..templates``."""

from __future__ import annotations

from ..android import LITERT_VERSION
from ..templates import Template

# Versions that Google's LiteRT samples (github.com/google-ai-edge/litert-samples, August 2026) build with; LiteRT's is
# that of the kit. AGP 8.13 needs Gradle 8.13 and a JDK 17 or later; LiteRT's classes need a Kotlin compiler of 2.2.
GRADLE_VERSION = "8.13"
COMPILE_SDK, MIN_SDK = 36, 24
CATALOG = f"""\
[versions]
agp = "8.13.2"
kotlin = "2.3.0"
litert = "{LITERT_VERSION}"
camerax = "1.5.2"
activity = "1.12.1"
core = "1.17.0"
test-junit = "1.3.0"
test-runner = "1.7.0"

[libraries]
litert = {{ module = "com.google.ai.edge.litert:litert", version.ref = "litert" }}
litert-gpu = {{ module = "com.google.ai.edge.litert:litert-gpu", version.ref = "litert" }}
camera-core = {{ module = "androidx.camera:camera-core", version.ref = "camerax" }}
camera-camera2 = {{ module = "androidx.camera:camera-camera2", version.ref = "camerax" }}
camera-lifecycle = {{ module = "androidx.camera:camera-lifecycle", version.ref = "camerax" }}
camera-view = {{ module = "androidx.camera:camera-view", version.ref = "camerax" }}
activity = {{ module = "androidx.activity:activity-ktx", version.ref = "activity" }}
core = {{ module = "androidx.core:core-ktx", version.ref = "core" }}
test-junit = {{ module = "androidx.test.ext:junit", version.ref = "test-junit" }}
test-runner = {{ module = "androidx.test:runner", version.ref = "test-runner" }}

[plugins]
android-application = {{ id = "com.android.application", version.ref = "agp" }}
kotlin-android = {{ id = "org.jetbrains.kotlin.android", version.ref = "kotlin" }}
"""

SETTINGS = Template("""\
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}

dependencyResolutionManagement {
    repositoriesMode.set(RepositoriesMode.FAIL_ON_PROJECT_REPOS)
    repositories {
        google()
        mavenCentral()
    }
}

rootProject.name = "@{class_name}"
include(":app")
""")

ROOT_BUILD = """\
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.kotlin.android) apply false
}
"""

APP_BUILD = Template("""\
import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "com.example.wavemix"
    compileSdk = @{compile_sdk}

    defaultConfig {
        applicationId = "com.example.wavemix.@{application}"
        minSdk = @{min_sdk}
        targetSdk = @{compile_sdk}
        versionCode = 1
        versionName = "1.0"
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    androidResources {
        noCompress += "tflite" // LiteRT maps the file into memory
    }

    packaging {
        jniLibs {
            useLegacyPackaging = true // LiteRT looks for the libraries of an NPU in the app's folder
        }
    }
}

kotlin {
    compilerOptions {
        jvmTarget.set(JvmTarget.JVM_17)
    }
}

dependencies {
    implementation(libs.litert)
    implementation(libs.litert.gpu)
    // For an NPU, the libraries of its vendor, of LiteRT's version; README.md says what else each needs.
@{npu_libraries}
    implementation(libs.camera.core)
    implementation(libs.camera.camera2)
    implementation(libs.camera.lifecycle)
    implementation(libs.camera.view)
    implementation(libs.activity)
    implementation(libs.core)
    androidTestImplementation(libs.test.junit)
    androidTestImplementation(libs.test.runner)
}
""")

PROPERTIES = """\
org.gradle.jvmargs=-Xmx2048m -Dfile.encoding=UTF-8
android.useAndroidX=true
android.nonTransitiveRClass=true
kotlin.code.style=official
"""

WRAPPER_PROPERTIES = f"""\
distributionBase=GRADLE_USER_HOME
distributionPath=wrapper/dists
distributionUrl=https\\://services.gradle.org/distributions/gradle-{GRADLE_VERSION}-bin.zip
networkTimeout=10000
validateDistributionUrl=true
zipStoreBase=GRADLE_USER_HOME
zipStorePath=wrapper/dists
"""

GIT_IGNORE = """\
.gradle/
.idea/
build/
local.properties
"""

MANIFEST = """\
<?xml version="1.0" encoding="utf-8"?>
<manifest xmlns:android="http://schemas.android.com/apk/res/android">

    <!-- The permission would imply it, and devices without a camera could not install the app. -->
    <uses-feature
        android:name="android.hardware.camera"
        android:required="false" />

    <uses-permission android:name="android.permission.CAMERA" />

    <application
        android:icon="@drawable/ic_launcher"
        android:label="@string/app_name"
        android:supportsRtl="true"
        android:theme="@style/AppTheme">

        <!-- Libraries of the device that the GPU accelerator and the NPU of Qualcomm open. -->
        <uses-native-library
            android:name="libOpenCL.so"
            android:required="false" />
        <uses-native-library
            android:name="libcdsprpc.so"
            android:required="false" />

        <activity
            android:name=".MainActivity"
            android:exported="true">
            <intent-filter>
                <action android:name="android.intent.action.MAIN" />
                <category android:name="android.intent.category.LAUNCHER" />
            </intent-filter>
        </activity>
    </application>
</manifest>
"""

LAYOUT = """\
<?xml version="1.0" encoding="utf-8"?>
<LinearLayout xmlns:android="http://schemas.android.com/apk/res/android"
    xmlns:app="http://schemas.android.com/apk/res-auto"
    android:layout_width="match_parent"
    android:layout_height="match_parent"
    android:fitsSystemWindows="true"
    android:orientation="vertical">

    <FrameLayout
        android:layout_width="match_parent"
        android:layout_height="0dp"
        android:layout_weight="1">

        <androidx.camera.view.PreviewView
            android:id="@+id/preview"
            android:layout_width="match_parent"
            android:layout_height="match_parent"
            app:scaleType="fitCenter" />

        <ImageView
            android:id="@+id/shown"
            android:layout_width="match_parent"
            android:layout_height="match_parent"
            android:background="?android:attr/colorBackground"
            android:contentDescription="@string/picture"
            android:scaleType="fitCenter"
            android:visibility="gone" />
    </FrameLayout>

    <TextView
        android:id="@+id/answer"
        android:layout_width="match_parent"
        android:layout_height="wrap_content"
        android:minLines="5"
        android:padding="8dp"
        android:typeface="monospace" />

    <TextView
        android:id="@+id/status"
        android:layout_width="match_parent"
        android:layout_height="wrap_content"
        android:padding="8dp"
        android:text="@string/opening" />

    <LinearLayout
        android:layout_width="match_parent"
        android:layout_height="wrap_content"
        android:orientation="horizontal">

        <Spinner
            android:id="@+id/places"
            android:layout_width="0dp"
            android:layout_height="wrap_content"
            android:layout_gravity="center_vertical"
            android:layout_weight="1"
            android:contentDescription="@string/places" />

        <Button
            android:id="@+id/camera"
            android:layout_width="wrap_content"
            android:layout_height="wrap_content"
            android:text="@string/camera" />

        <Button
            android:id="@+id/picture"
            android:layout_width="wrap_content"
            android:layout_height="wrap_content"
            android:text="@string/picture" />
    </LinearLayout>
</LinearLayout>
"""

STRINGS = Template("""\
<?xml version="1.0" encoding="utf-8"?>
<resources>
    <string name="app_name">@{title}</string>
    <string name="camera">Camera</string>
    <string name="no_camera">The app may not use the camera. Choose a picture.</string>
    <string name="opening">Opening the network</string>
    <string name="picture">Picture</string>
    <string name="places">Where the network runs</string>
</resources>
""")

THEMES = """\
<?xml version="1.0" encoding="utf-8"?>
<resources>
    <style name="AppTheme" parent="@android:style/Theme.Material.Light.NoActionBar">
        <item name="android:windowLightStatusBar">true</item>
    </style>
</resources>
"""

ICON = """\
<?xml version="1.0" encoding="utf-8"?>
<vector xmlns:android="http://schemas.android.com/apk/res/android"
    android:width="48dp"
    android:height="48dp"
    android:viewportWidth="48"
    android:viewportHeight="48">
    <path
        android:fillColor="#1F6FEB"
        android:pathData="M0,0h48v48h-48z" />
    <path
        android:pathData="M6,30q6,-16 12,0t12,0t12,0"
        android:strokeColor="#FFFFFF"
        android:strokeWidth="4" />
</vector>
"""
