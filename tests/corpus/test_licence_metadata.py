"""What the metadata files of each ecosystem say of the folder that they lie in."""

from __future__ import annotations

import fnmatch

import pytest
from licence_trees import GPL, MIT, NOT, NPM, UNKNOWN, reason

from sevenfold.corpus.licences.declared import metadata


def setup_py(arguments: str) -> bytes:
    return f"from setuptools import setup\nNAME = 'GPLv3'\nsetup(name='x', {arguments})\n".encode()


POM = "<project><licenses><license><name>{}</name></license></licenses></project>"
# One metadata file in an inner folder of an MIT package -> the reason for a file beside it.
METADATA: list[tuple[str, str, str | None]] = [
    ("composer.json", '{"license": "GPL-3.0-or-later"}', NOT),
    ("composer.json", '{"license": ["MIT", "GPL-3.0-or-later"]}', None),
    ("composer.json", '{"license": "proprietary"}', UNKNOWN),
    ("package.json", '{"license": ', UNKNOWN),
    ("package.json", "[]", UNKNOWN),
    ("package.json", '{"license": 7}', UNKNOWN),
    ("package.json", '{"license": "MIT", "license": "GPL-3.0"}', UNKNOWN),
    ("package.json", '{"license": {"type": "GPL-3.0"}}', NOT),
    ("package.json", '{"licence": "GPL-3.0"}', NOT),
    ("package.json", '{"license": "MIT", "licenses": [{"type": "GPL-3.0"}]}', NOT),
    ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "GPL-3.0"}]}', None),
    ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "Mine"}]}', UNKNOWN),
    ("package.json", '{"license": "UNLICENSED"}', UNKNOWN),
    ("package.json", '{"license": "SEE LICENSE IN TERMS.dat"}', UNKNOWN),
    ("package.json", '{"type": "module"}', None),
    ("bower.json", '{"license": "GPL-2.0"}', NOT),
    ("haxelib.json", '{"license": "GPL"}', NOT),
    ("META.json", '{"license": ["perl_5"]}', NOT),
    ("META.yml", "license: gpl\n", NOT),
    ("Cargo.toml", '[package]\nlicense = "GPL-3.0"\n', NOT),
    ("Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"\n', None),
    ("Cargo.toml", '[package]\nlicense-file = "LICENSE"\n', UNKNOWN),
    ("Cargo.toml", "[package\n", UNKNOWN),
    ("Cargo.toml", '[workspace.package]\nlicense = "GPL-3.0"\n', NOT),
    ("pyproject.toml", '[tool.poetry]\nlicense = "GPL-3.0-only"\n', NOT),
    ("pyproject.toml", '[tool.flit.metadata]\nlicense = "GPL-3.0-only"\n', NOT),
    ("pyproject.toml", '[project]\nlicense = "GPL-3.0-only"\n', NOT),
    ("pyproject.toml", '[project]\nlicense = {text = "GPLv3"}\n', NOT),
    ("pyproject.toml", '[project]\nlicense = {file = "away.txt"}\n', UNKNOWN),
    ("pyproject.toml", "[project]\nlicense = 3\n", UNKNOWN),
    (
        "pyproject.toml",
        '[project]\nclassifiers = ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"]\n',
        NOT,
    ),
    ("pyproject.toml", '[project]\nname = "x"\n', None),
    ("setup.cfg", "[metadata]\nlicense = GPLv3+\n", NOT),
    (
        "setup.cfg",
        "[metadata]\nlicense = MIT\nclassifiers =\n"
        "  License :: OSI Approved :: GNU General Public License v3 (GPLv3)\n",
        NOT,
    ),
    ("setup.cfg", "license\n", UNKNOWN),
    ("setup.py", setup_py("license='GPLv3'").decode(), NOT),
    ("setup.py", setup_py("license=NAME").decode(), NOT),
    ("setup.py", setup_py("license=open('x').read()").decode(), UNKNOWN),
    ("setup.py", setup_py("**{'license': 'GPLv3'}").decode(), NOT),
    (
        "setup.py",
        setup_py("classifiers=['License :: OSI Approved :: GNU Affero General Public License v3']").decode(),
        NOT,
    ),
    ("setup.py", setup_py("license='MIT'").decode(), None),
    ("setup.py", "print 'x'\nsetup(license='GPL')\n", NOT),
    ("x.gemspec", 's.license = "GPL-3.0"\n', NOT),
    ("x.gemspec", 's.licenses = ["MIT", "GPL-2.0"]\n', NOT),
    ("x.gemspec", "s.licenses = %w[MIT GPL-2.0]\n", NOT),
    ("x.gemspec", 's.license = "MIT".freeze\n', None),
    ("x.gemspec", "s.license = LICENCE\n", UNKNOWN),
    ("x.podspec", "s.license = { :type => 'GPL-3.0', :file => 'LICENSE' }\n", NOT),
    ("pom.xml", POM.format("GNU General Public License, version 2"), NOT),
    ("pom.xml", POM.format("The Apache Software License, Version 2.0"), None),
    ("pom.xml", "<!DOCTYPE x [<!ENTITY a 'b'>]>" + POM.format("MIT"), UNKNOWN),
    ("pom.xml", "<project><licenses>", UNKNOWN),
    (
        "x.nuspec",
        '<package><metadata><license type="expression">GPL-3.0-only</license></metadata></package>',
        NOT,
    ),
    (
        "x.nuspec",
        "<package><metadata><licenseUrl>https://my.org/terms</licenseUrl></metadata></package>",
        UNKNOWN,
    ),
    ("DESCRIPTION", "Package: x\nLicense: GPL-2 | file LICENCE\n", NOT),
    ("DESCRIPTION", "Package: x\nLicense: GPL (>= 2)\n", NOT),
    ("DESCRIPTION", "Package: x\nLicense: MIT + file LICENSE\n", UNKNOWN),
    ("DESCRIPTION", "Package: x\nLicense: Unlimited\n", UNKNOWN),
    ("DESCRIPTION", "Package: x\nLicense: file LICENSE\n", UNKNOWN),
    ("DESCRIPTION", "A thing that does things.\n", None),
    ("x.cabal", "name: x\nlicense: GPL-3\n", NOT),
    ("x.cabal", "name: x\nlicense: BSD3\n", None),
    ("x.cabal", "name: x\nlicense: AllRightsReserved\n", UNKNOWN),
    ("x.opam", 'license: "GPL-3.0-only"\n', NOT),
    ("opam", 'license: ["MIT" "LGPL-2.1-only"]\n', NOT),
    ("mix.exs", 'package: [licenses: ["GPL-3.0"]]\n', NOT),
    ("build.gradle", "licenses {\n license {\n name = 'GPL-3.0'\n }\n}\n", NOT),
    ("build.sbt", 'licenses := Seq("GPL-3.0" -> url("x"))\n', NOT),
    ("meta.yaml", "package:\n  name: x\nabout:\n  license: GPL-3.0-only\n", NOT),
    ("CITATION.cff", "license: GPL-3.0-only\n", NOT),
    ("x.spec", "Name: x\nLicense: GPLv2+\n", NOT),
    ("x.rockspec", 'license = "GPL-3.0"\n', NOT),
    ("meson.build", "project('x', 'c', license : 'GPL-3.0-only')\n", NOT),
    ("package.json", '{"license": "NONE"}', UNKNOWN),
    ("package.json", '{"license": ["MIT", "GPL-3.0", "Mine alone"]}', UNKNOWN),
    ("composer.json", '{"license": ["MIT", 7]}', UNKNOWN),
    ("vcpkg.json", '{"name": "x", "license": null}', UNKNOWN),
    ("setup.py", setup_py("license='MIT', license_files=['gone']").decode(), UNKNOWN),
    ("setup.py", setup_py("license='MIT', license_files=('LICEN[CS]E*',)").decode(), None),
    ("setup.py", setup_py("license_files=find()").decode(), UNKNOWN),
    ("meta.yaml", "about:\n  license_file: T\n", UNKNOWN),
    ("codemeta.json", '{"license": "https://spdx.org/licenses/GPL-3.0-only"}', NOT),
    (
        "codemeta.json",
        '{"license": ["https://spdx.org/licenses/MIT", "https://spdx.org/licenses/GPL-3.0-only.html"]}',
        NOT,
    ),
    ("codemeta.json", '{"license": {"@id": "https://spdx.org/licenses/GPL-3.0-only"}}', NOT),
    ("codemeta.json", '{"license": {"@type": "CreativeWork"}}', UNKNOWN),
    ("META.json", '{"license": ["mit", "gpl_3"]}', NOT),
    ("META.yml", "---\nlicense: perl\n", NOT),
    ("META.yml", "--- #YAML:1.0\nname: x\nlicense: restrictive\n", UNKNOWN),
    ("Makefile.PL", "WriteMakefile(NAME => 'X', LICENSE => 'gpl_3');\n", NOT),
    ("Makefile.PL", "use inc::Module::Install;\nlicense 'gpl3';\n", NOT),
    ("Makefile.PL", "WriteMakefile(NAME => 'X', 'LICENSE' => licence_of('x'));\n", UNKNOWN),
    ("dist.ini", "name = X\nlicense = Perl_5\n", NOT),
    ("dist.ini", "name = X\nlicense = Apache_2_0\n", None),
    ("dist.ini", "name = X\nlicense = Artistic_2_0\n", NOT),
    ("CITATION.cff", "license: [MIT, GPL-3.0-only]\n", NOT),
    ("CITATION.cff", "license:\n  - MIT\n  - GPL-3.0-only\n", NOT),
    ("CITATION.cff", '"license": GPL-3.0-only\n', NOT),
    ("CITATION.cff", "license: MIT\nlicense: GPL-3.0-only\n", UNKNOWN),
    ("CITATION.cff", "license: MIT\nreferences:\n  - license: GPL-3.0-only\n", None),
    ("CITATION.cff", "license: {a: b}\n", UNKNOWN),
    ("CITATION.cff", "license: 'MIT\n", UNKNOWN),
    ("meta.yaml", "{% set version = '1' %}\nabout:\n  license: GPL-3.0-only\n  license_file: {{ f }}\n", NOT),
    ("meta.yaml", "{% set version = '1' %}\nabout: {license: GPL-3.0-only}\n", UNKNOWN),
    ("recipe.yaml", "about:\n  license: GPL-3.0-only\n", NOT),
    ("shard.yml", "name: x\nlicense: >\n  GPL-3.0-only\n", NOT),
    ("Cargo.toml", '[package]\nlicense = "MIT"\nlicense-file = "terms.txt"\n', UNKNOWN),
    ("Cargo.toml", '[package]\nlicense = "MIT"\nlicense-file = 7\n', UNKNOWN),
    ("Cargo.toml", '[package]\nlicense = "MIT"\nlicense = "GPL-3.0"\n', UNKNOWN),
    ("Cargo.toml", "[package]\nlicense-file.workspace = true\n", UNKNOWN),
    ("pyproject.toml", '[project]\nlicense = "MIT"\nlicense-files = ["terms/*"]\n', UNKNOWN),
    ("pyproject.toml", '[project]\nlicense = "MIT"\nlicense-files = ["gone.txt"]\n', UNKNOWN),
    ("pyproject.toml", '[project]\nlicense = "MIT"\nlicense-files = {globs = ["LICEN[CS]E*"]}\n', None),
    ("pyproject.toml", '[project]\nlicense = "MIT"\nlicense-files = 7\n', UNKNOWN),
    ("pyproject.toml", '[project]\nlicense = "MIT"\nlicense-files = ["[z-a]"]\n', UNKNOWN),
    ("setup.cfg", "[metadata]\nlicense = MIT\nlicense_files = gone.txt\n", UNKNOWN),
    ("setup.cfg", "[metadata]\nlicense = MIT\nlicense_files =\n  LICEN[CS]E*\n  NOTICE*\n", None),
    ("x.gemspec", 's.license = "MIT"\ns.licenses << "GPL-3.0"\n', NOT),
    ("x.gemspec", 's.send(:license=, "GPL-3.0")\n', UNKNOWN),
    ("x.gemspec", '# s.license = "GPL-3.0"\ns.files = %w[LICENSE README]\n', None),
    ("x.gemspec", 's.files = ["lib/x.rb", "LICENSE", "license.txt"]\n', None),
    ("x.podspec", "s.license = { :file => 'terms.txt' }\n", UNKNOWN),
    ("x.nimble", 'license: "GPL-3.0-only"\n', NOT),
    ("x.rockspec", '-- license = "MIT"\ndescription = { license = terms() }\n', UNKNOWN),
    ("default.nix", "meta = with lib; { license = with licenses; [ mit gpl3Plus ]; };\n", NOT),
    ("default.nix", "meta.license = lib.licenses.unfree;\n", UNKNOWN),
    ("default.nix", "meta.license = if x then y else z;\n", UNKNOWN),
    ("flake.nix", "# license = lib.licenses.gpl3Plus;\n{ outputs = x; }\n", None),
    ("project.clj", '(defproject x "1" :license {:name "GPL-3.0" :url "x"})\n', NOT),
    ("project.clj", '(defproject x "1" :licenses [{:name "MIT"} {:name "GPL-3.0"}])\n', NOT),
    ("project.clj", '(defproject x "1" :license terms)\n', UNKNOWN),
    ("info.rkt", "#lang info\n(define license '(Apache-2.0 OR MIT))\n", None),
    ("info.rkt", "#lang info\n(define license '(MIT AND GPL-3.0-only))\n", NOT),
    ("info.rkt", "#lang info\n(define license (f))\n", UNKNOWN),
    ("dune-project", "(lang dune 3)\n(license MIT GPL-3.0-only)\n", NOT),
    ("dune-project", "(lang dune 3)\n(license %{x})\n", UNKNOWN),
    ("package.xml", "<package><license>MIT</license><license>GPL-3.0-only</license></package>", NOT),
    (
        "x.csproj",
        "<Project><PropertyGroup><PackageLicenseFile>T.txt</PackageLicenseFile></PropertyGroup></Project>",
        UNKNOWN,
    ),
    ("rebar.config", '{licenses, ["MIT"', UNKNOWN),
    ("x.app.src", "{application, x, [{licenses, licences()}]}.", UNKNOWN),
    ("x.opam", 'license: ["MIT"\n', UNKNOWN),
    ("default.nix", "{ license = lib.licenses.mit\n", UNKNOWN),
    ("x.metainfo.xml", "<component><metadata_license>MIT</metadata_license></component>", None),
    ("deno.jsonc", '{"license": "MIT" // "GPL-3.0"\n}', None),
    ("deno.jsonc", '{"homepage": "https://x.org//*", "license": "GPL-3.0", /* , } */}', NOT),
    ("deno.jsonc", '{"license": "MIT", "license": "GPL-3.0"}', UNKNOWN),
    ("deno.jsonc", '{"license": ', UNKNOWN),
    ("metadata.json", '[{"a": 1}]', None),
    ("metadata.json", '{"a": ', None),
    ("metadata.json", '{"license": ', UNKNOWN),
    ("metadata.json", '{"KPlugin": {"License": "GPL"}}', NOT),
    ("metadata.json", '{"description": "licence plates"}', None),
    ("PKGBUILD", "license=(MIT 'GPL-2.0-or-later')\n", NOT),
    ("PKGBUILD", "license=('MIT'  # of the code\n         'custom:x')\n", UNKNOWN),
    ("PKGBUILD", 'license=("$_licence")\n', UNKNOWN),
    ("PKGBUILD", "license=()\n", UNKNOWN),
    ("PKGBUILD", "pkgname=x\n# license=('GPL')\n", None),
    ("PKGBUILD", "license+=('GPL')\n", NOT),
    ("APKBUILD", 'license="MIT AND GPL-2.0-only"\n', NOT),
    ("APKBUILD", 'license="MIT OR GPL-2.0-only"\n', None),
    ("x-1.ebuild", 'LICENSE="|| ( MIT GPL-2 )"\n', None),
    ("x-1.ebuild", 'LICENSE="MIT doc? ( GPL-2+ )"\n', NOT),
    ("x-1.ebuild", 'LICENSE="BSD\n\tGPL-2"\n', NOT),
    ("x-1.ebuild", 'LICENSE="all-rights-reserved"\n', UNKNOWN),
    ("x-1.ebuild", 'LICENSE="${X}"\n', UNKNOWN),
    ("x_1.bb", 'LICENSE = "MIT & GPL-2.0-only"\n', NOT),
    ("x_1.bb", 'LICENSE = "MIT | GPL-2.0-only"\n', None),
    ("x_1.bb", 'LICENSE:${PN}-doc = "GPL-2.0-only"\n', NOT),
    ("x_1.bb", 'LICENSE_FLAGS = "commercial"\n', None),
    ("x_1.bb", 'LICENSE = "CLOSED"\n', UNKNOWN),
    ("Portfile", "license {MIT GPL-2}\n", None),
    ("Portfile", "license MIT GPL-2\n", NOT),
    ("Makefile", "LICENSE = LICENSE.txt\nall:\n\tcc a.c\n", None),
    ("Makefile", "PORTNAME=\tx\nLICENSE=\tGPLv2\n", NOT),
    ("x.mk", "X_LICENSE = GPL-2.0+\n", None),
    ("package.py", "license(x)\n", None),
    ("package.py", "class X(Package):\n    license(terms)\n", UNKNOWN),
    ("x.rb", 'class X < Formula\n  license any_of: ["MIT", "GPL-2.0-only"]\nend\n', None),
    ("x.rb", 'class X < Formula\n  license all_of: ["MIT",\n    "GPL-2.0-only"]\nend\n', NOT),
    ("x.rb", 'class X < Formula\n  license "Apache-2.0" => { with: "LLVM-exception" }\nend\n', NOT),
    ("x.rb", 'class X < Formula\n  license any_of: ["MIT", all_of: ["MIT", "ISC"]]\nend\n', UNKNOWN),
    ("x.rb", "class X < Formula\n  license :cannot_represent\nend\n", UNKNOWN),
    ("x.rb", 'class X < Formula\n  # license "GPL-2.0-only"\nend\n', None),
    ("x.rb", 'class X < Model\n  license "GPL-2.0-only"\nend\n', None),
    ("x.scm", "(package (name x)\n (license (list license:expat\n  license:gpl2+)))\n", NOT),
    ("x.scm", "(define-public x\n  (package (license asl2.0)))\n", None),
    ("x.scm", '(package (license (license:non-copyleft "file://C")))\n', UNKNOWN),
    ("x.scm", "(package (license (if x license:expat license:isc)))\n", UNKNOWN),
    ("x.scm", "(package (license license:lgpl9))\n", UNKNOWN),
    ("x.scm", "(package (name x)) ; (license license:gpl3)\n", None),
    ("x.scm", "(define (license) 'gpl)\n", None),
    ("MANIFEST.MF", "Bundle-License: https://www.gnu.org/licenses/g\n pl.html\n", UNKNOWN),
    ("MANIFEST.MF", "Manifest-Version: 1.0\n", None),
    ("BUILD.bazel", 'licenses(["notice"])\n', None),
    ("BUILD.bazel", 'licenses(["restricted"])  # GPL\n', UNKNOWN),
    ("README.md", "# X\nlicense: GPL-3.0\n", None),
    ("README.md", "---\nlicense: other\n---\n", UNKNOWN),
    ("README.md", "---\nlicense:\n- mit\n- cc-by-nc-4.0\n---\n", NOT),
    ("README.md", "---\ntitle: {{ x }\n---\n", None),
    ("Dockerfile", "FROM x\nRUN cp LICENSE /\n", None),
    ("main.yml", "on: push\njobs: {}\n", None),
    ("blender_manifest.toml", 'license = ["SPDX:MIT", "SPDX:GPL-3.0-or-later"]\n', NOT),
    ("x.vsixmanifest", "<P><Metadata><License>T.txt</License></Metadata></P>", UNKNOWN),
    (
        "Directory.Build.targets",
        "<P><PackageLicenseExpression>GPL-3.0-only</PackageLicenseExpression></P>",
        NOT,
    ),
]


@pytest.mark.parametrize(
    ("name", "text", "wanted"), METADATA, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(METADATA)]
)
def test_metadata_of_a_folder(name: str, text: str, wanted: str | None) -> None:
    files = NPM | {f"inner/{name}": text.encode()}
    assert reason(files, "inner/src/a.c") == wanted
    assert reason(files, "outer.c") is None


# A metadata file of each ecosystem that names one licence, {}.
FORMATS = {
    "package.json": '{{"name": "x", "license": "{}"}}',
    "composer.json": '{{"license": ["{}"]}}',
    "bower.json": '{{"license": "{}"}}',
    "dub.json": '{{"license": "{}"}}',
    "elm.json": '{{"type": "package", "license": "{}"}}',
    "vcpkg.json": '{{"license": "{}"}}',
    "library.json": '{{"license": "{}"}}',
    "codemeta.json": '{{"@context": "x", "license": "{}"}}',
    ".zenodo.json": '{{"license": "{}"}}',
    "META.json": '{{"license": ["{}"]}}',
    "META6.json": '{{"license": "{}"}}',
    "META.yml": "---\nlicense: {}\n",
    "Cargo.toml": '[package]\nlicense = "{}"\n',
    "pyproject.toml": '[project]\nlicense = "{}"\n',
    "Project.toml": 'name = "X"\nlicense = "{}"\n',
    "fpm.toml": 'license = "{}"\n',
    "alire.toml": 'licenses = "{}"\n',
    "gleam.toml": 'licences = ["{}"]\n',
    "typst.toml": '[package]\nlicense = "{}"\n',
    "Move.toml": '[package]\nlicense = "{}"\n',
    "setup.cfg": "[metadata]\nlicense = {}\n",
    "setup.py": "setup(license='{}')\n",
    "dub.sdl": 'name "x"\nlicense "{}"\n',
    "x.nimble": 'version = "1"\nlicense = "{}"\n',
    "conanfile.py": 'class X(ConanFile):\n    license = "{}"\n',
    "x.app.src": '{{application, x, [{{licenses, ["{}"]}}]}}.\n',
    "hex_metadata.config": '{{<<"licenses">>,[<<"{}">>]}}.\n',
    "mix.exs": 'package: [licenses: ["{}"]]\n',
    "shard.yml": "name: x\nlicense: {}\n",
    "pubspec.yaml": "name: x\nlicense: {}\n",
    "snapcraft.yaml": "name: x\nlicense: {}\n",
    "CITATION.cff": "cff-version: 1.2.0\nlicense: {}\n",
    "meta.yaml": "package:\n  name: x\nabout:\n  license: {}\n",
    "dist.ini": "name = X\nlicense = {}\n",
    "library.properties": "name=X\nlicense={}\n",
    "x.cabal": "name: x\nlicense: {}\n",
    "DESCRIPTION": "Package: x\nLicense: {}\n",
    "x.gemspec": 's.license = "{}"\n',
    "x.podspec": "s.license = '{}'\n",
    "x.rockspec": 'description = {{ license = "{}" }}\n',
    "x.opam": 'license: "{}"\n',
    "dune-project": '(license "{}")\n',
    "meson.build": "project('x', license: '{}')\n",
    "v.mod": "Module {{\n\tlicense: '{}'\n}}\n",
    "x.asd": '(defsystem "x" :license "{}")\n',
    "default.nix": '{{ meta.license = "{}"; }}\n',
    "pom.xml": POM,
    "ivy.xml": '<ivy-module><info><license name="{}"/></info></ivy-module>',
    "x.csproj": "<Project><P><PackageLicenseExpression>{}</PackageLicenseExpression></P></Project>",
    "x.metainfo.xml": "<component><project_license>{}</project_license></component>",
    "build.gradle": "licenses {{ license {{ name = '{}' }} }}\n",
    "build.sbt": 'licenses := Seq("{}" -> url("x"))\n',
    "deno.jsonc": '// x\n{{\n  /* y */ "license": "{}",\n}}\n',
    "jsr.jsonc": '{{"name": "@x/y", "license": "{}" /* z */}}\n',
    "package.json5": '{{"license": "{}",}}\n',
    "fabric.mod.json": '{{"id": "x", "license": "{}"}}',
    "metadata.json": '{{"name": "x-y", "license": "{}"}}',
    "__manifest__.py": "{{'name': 'x', 'license': '{}'}}\n",
    "PKGBUILD": "pkgname=x\nlicense=('{}')\n",
    "APKBUILD": 'pkgname=x\nlicense="{}"\n',
    ".SRCINFO": "pkgbase = x\n\tlicense = {}\n",
    "x-1.ebuild": 'EAPI=8\nLICENSE="{}"\n',
    "x_1.bb": 'SUMMARY = "x"\nLICENSE = "{}"\n',
    "x-1.recipe": 'SUMMARY="x"\nLICENSE="{}"\n',
    "Portfile": "name x\nlicense             {}\n",
    "template": "pkgname=x\nlicense='{}'\n",
    "Makefile": "PKG_NAME:=x\nPKG_LICENSE:={}\n",
    "x.mk": "X_VERSION = 1\nX_LICENSE = {}\n\n$(eval $(generic-package))\n",
    "MANIFEST.MF": "Manifest-Version: 1.0\nBundle-License: {};link=x\n",
    "gradle.properties": "POM_NAME=x\nPOM_LICENCE_NAME={}\n",
    "xmake.lua": 'set_project("x")\nset_license("{}")\n',
    "metadata.rb": "name 'x'\nlicense '{}'\n",
    "package.py": 'class X(CMakePackage):\n    license("{}")\n',
    "project.janet": '(declare-project :name "x" :license "{}")\n',
    "Dockerfile": 'FROM x\nLABEL org.opencontainers.image.licenses="{}"\n',
    "Android.bp": 'package {{ default_applicable_licenses: ["x"] }}\n'
    'license {{ license_kinds: ["SPDX-license-identifier-{}"] }}\n',
    "README.chromium": "Name: x\nLicense: {}\nSecurity Critical: no\n",
    "README.md": "---\nlicense: {}\n---\n# X\n",
    "metadata.desktop": "[Desktop Entry]\nX-KDE-PluginInfo-License={}\n",
    "idf_component.yml": 'version: "1"\nlicense: "{}"\n',
    "spago.yaml": "package:\n  name: x\n  license: {}\n",
    "publiccode.yml": "legal:\n  license: {}\n",
    "main.yml": "galaxy_info:\n  license: {}\n",
    "pixi.toml": '[workspace]\nlicense = "{}"\n',
    "blender_manifest.toml": 'id = "x"\nlicense = ["SPDX:{}"]\n',
    "mods.toml": 'license = "{}"\n',
    "addon.xml": '<addon id="x"><extension><license>{}</license></extension></addon>',
    "info.xml": "<info><licence>{}</licence></info>",
    "x.rb": 'class X < Formula\n  desc "y"\n  license "{}"\nend\n',
    "x.lpk": '<CONFIG><Package><License Value="{}"/></Package></CONFIG>',
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("licence", "wanted"),
    [("MIT", None), ("GPL-3.0-only", NOT), ("Mine-alone", UNKNOWN), ("MIT-but-not-for-evil", UNKNOWN)],
)
def test_every_format_says_what_it_names(name: str, licence: str, wanted: str | None) -> None:
    files = NPM | {f"inner/{name}": FORMATS[name].format(licence).encode()}
    assert reason(files, "inner/src/a.c") == wanted


@pytest.mark.parametrize("name", FORMATS)
def test_a_metadata_file_that_cannot_be_read_is_unknown(name: str) -> None:
    assert reason(NPM | {f"inner/{name}": None}, "inner/src/a.c") == UNKNOWN


@pytest.mark.parametrize(
    "name", [name for name in FORMATS if name.endswith((".json", ".toml", ".xml", ".lpk"))]
)
def test_a_metadata_file_that_is_cut_off_is_unknown(name: str) -> None:
    text = FORMATS[name].format("MIT").rstrip()
    files = NPM | {f"inner/{name}": text[:-1].encode() + (b"\n[" if name.endswith(".toml") else b"")}
    assert reason(files, "inner/src/a.c") == UNKNOWN


# Formats of which none has a licence: what stands in them says nothing.
WITHOUT = {
    "go.mod": "module x\n",
    "Package.swift": 'let package = Package(name: "x")\n',
    "CMakeLists.txt": "project(x)\n",
    "conanfile.txt": "[requires]\nx/1.0\n",
    "environment.yml": "name: x\n",
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_format_without_a_licence_says_nothing(name: str) -> None:
    assert reason(NPM | {f"inner/{name}": WITHOUT[name].encode()}, "inner/src/a.c") is None


def test_rs_template_beside_a_description() -> None:
    files = {"DESCRIPTION": b"License: MIT + file LICENSE\n", "LICENSE": b"YEAR: 2020\nCOPYRIGHT HOLDER: x\n"}
    assert reason(files, "R/a.R") is None
    assert reason(files | {"LICENSE": b"Not on Tuesdays.\n"}, "R/a.R") == UNKNOWN
    assert reason(files | {"LICENSE": MIT}, "R/a.R") is None


WORKSPACE = b'[workspace.package]\nlicense = "MIT"\nlicense-file = "T"\n'
MEMBER = b"[package]\nlicense.workspace = true\n"
CARGO: dict[str, tuple[dict[str, bytes | None], str | None]] = {
    "member": ({"Cargo.toml": b'[workspace.package]\nlicense = "MIT"\n', "x/Cargo.toml": MEMBER}, None),
    "member of nothing, in an npm package": (NPM | {"x/Cargo.toml": MEMBER}, UNKNOWN),
    "member below a package that is no workspace": (
        {"Cargo.toml": b'[package]\nlicense = "MIT"\n', "x/Cargo.toml": MEMBER},
        UNKNOWN,
    ),
    "root of its own workspace": (
        {"Cargo.toml": b'[workspace.package]\nlicense = "MIT"\n[package]\nlicense.workspace = true\n'},
        None,
    ),
    "the workspace's file": ({"Cargo.toml": WORKSPACE, "T": GPL, "x/Cargo.toml": MEMBER}, NOT),
    "the workspace's file is not there": ({"Cargo.toml": WORKSPACE, "x/Cargo.toml": MEMBER}, UNKNOWN),
}


@pytest.mark.parametrize(("files", "wanted"), CARGO.values(), ids=CARGO)
def test_cargo_workspaces(files: dict[str, bytes | None], wanted: str | None) -> None:
    assert reason(files, "x/src/a.rs") == wanted


def test_the_reader_of_a_name_is_that_of_the_first_glob_that_matches() -> None:
    """One pattern of all globs chooses as they do one by one."""
    names = {glob.replace("*", part) for glob, _ in metadata._GLOBS for part in ("x", "a.b", "", "\n")}
    names |= {f"{name}x" for name in names} | {"setup.py", "a.dockerfile.nix", "x.rb", "main.c"}
    for name in names:
        wanted = next((r for glob, r in metadata._GLOBS if fnmatch.fnmatchcase(name.lower(), glob)), None)
        exact = metadata._CASED.get(name) or metadata._EXACT.get(name.lower())
        assert metadata._reader(name) is (exact or wanted), name
