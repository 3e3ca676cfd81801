//! Languages of new projects: their templates, and the commands that install their packages.

use clap::ValueEnum;

/// A file of a project: path in the project, and template. `@NAME@` and the like are replaced.
type Template = (&'static str, &'static str);

/// Files of every project.
const SHARED: &[Template] = &[
    ("infra/main.tf", include_str!("template/infra/main.tf.in")),
    (
        "infra/variables.tf",
        include_str!("template/infra/variables.tf.in"),
    ),
    (
        "infra/outputs.tf",
        include_str!("template/infra/outputs.tf.in"),
    ),
    (
        "infra/Dockerfile",
        include_str!("template/infra/Dockerfile.in"),
    ),
];

const RUST: &[Template] = &[
    ("Cargo.toml", include_str!("template/rust/Cargo.toml.in")),
    ("src/lib.rs", include_str!("template/rust/src/lib.rs.in")),
    ("src/main.rs", include_str!("template/rust/src/main.rs.in")),
    ("module.yaml", include_str!("template/rust/module.yaml.in")),
    ("README.md", include_str!("template/rust/README.md.in")),
    (".gitignore", include_str!("template/rust/gitignore.in")),
];

const PYTHON: &[Template] = &[
    ("app.py", include_str!("template/python/app.py.in")),
    (
        "test_app.py",
        include_str!("template/python/test_app.py.in"),
    ),
    (
        "requirements.txt",
        include_str!("template/python/requirements.txt.in"),
    ),
    (
        "module.yaml",
        include_str!("template/python/module.yaml.in"),
    ),
    ("package.sh", include_str!("template/python/package.sh.in")),
    ("README.md", include_str!("template/python/README.md.in")),
    (".gitignore", include_str!("template/python/gitignore.in")),
];

const JAVASCRIPT: &[Template] = &[
    ("app.js", include_str!("template/javascript/app.js.in")),
    (
        "app.test.js",
        include_str!("template/javascript/app.test.js.in"),
    ),
    (
        "package.json",
        include_str!("template/javascript/package.json.in"),
    ),
    (".npmrc", include_str!("template/javascript/npmrc.in")),
    (
        "module.yaml",
        include_str!("template/javascript/module.yaml.in"),
    ),
    (
        "README.md",
        include_str!("template/javascript/README.md.in"),
    ),
    (
        ".gitignore",
        include_str!("template/javascript/gitignore.in"),
    ),
];

/// Language of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// Rust, with Satchel's SDK.
    Rust,
    /// Python, with StateFun's SDK; needs Python 3.9 or newer, with its modules venv and pip.
    Python,
    /// JavaScript, with StateFun's SDK; needs Node.js 18 or newer, with npm.
    #[value(name = "javascript", alias = "js")]
    JavaScript,
}

impl Language {
    /// Every file of a project.
    pub(super) fn templates(self) -> impl Iterator<Item = &'static Template> {
        let own = match self {
            Self::Rust => RUST,
            Self::Python => PYTHON,
            Self::JavaScript => JAVASCRIPT,
        };
        own.iter().chain(SHARED)
    }

    /// Commands that install the packages of a project, run in its directory.
    pub(super) fn install_commands(self) -> &'static [&'static [&'static str]] {
        match self {
            // Cargo does at the first build.
            Self::Rust => &[],
            Self::Python => &[
                &["python3", "-m", "venv", ".venv"],
                &[
                    ".venv/bin/python",
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "-r",
                    "requirements.txt",
                ],
            ],
            Self::JavaScript => &[&["npm", "install", "--no-audit", "--no-fund"]],
        }
    }

    /// Next step of a person, with its purpose.
    pub(super) fn test_command(self) -> &'static str {
        match self {
            Self::Rust => "cargo test",
            Self::Python => ".venv/bin/python -m unittest",
            Self::JavaScript => "npm test",
        }
    }

    /// Arguments of the Terraform module of the function, besides those of every language.
    pub(super) fn terraform_arguments(self) -> &'static str {
        match self {
            Self::Rust => "",
            Self::Python => "  runtime     = \"python3.12\"\n  handler     = \"app.handler\"\n",
            Self::JavaScript => "  runtime     = \"nodejs22.x\"\n  handler     = \"app.handler\"\n",
        }
    }

    /// Command that makes the package for Lambda.
    pub(super) fn package_command(self) -> &'static str {
        match self {
            Self::Rust => "cargo lambda build --output-format zip",
            Self::Python => "package.sh",
            Self::JavaScript => "zip",
        }
    }
}
