//! `adapter_config.json`: what an adapter's factors mean.

use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value};

use crate::checkpoint::ModelFiles;
use crate::error::{LoadError, one_line};

const NAME: &str = "adapter_config.json";

/// Fields that change nothing once the factors are trained, whatever their value. `fan_in_fan_out` follows from the
/// base's layers, which PEFT corrects it by; the tensors say which modules and layers have factors.
const WITHOUT_EFFECT: [&str; 20] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
];

/// Fields that are computed, each read below.
const COMPUTED: [&str; 9] = [
    "alpha_pattern",
    "bias",
    "ensure_weight_tying",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "use_rslora",
];

/// Ways to begin a training that leave the base's weights as they are.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Advice for any adapter that is refused: weights that are served without it.
const WAY_OUT: &str = "merge the adapter into its base with PEFT's merge_and_unload() and save_pretrained(), and \
                       serve that model";

/// The scale of the factors.
#[derive(Debug)]
pub(super) struct Settings {
    rank: f64,
    alpha: f64,
    ranks: Vec<(Regex, f64)>,
    alphas: Vec<(Regex, f64)>,
    /// Divides alpha by √r in place of r.
    stabilised: bool,
    /// True if a change of the embedding is a change of the head that is tied to it, and the reverse.
    ties_head: bool,
}

impl Settings {
    /// Reads the file of an adapter.
    ///
    /// # Errors
    /// It is missing or damaged, or it asks for what is not W + scale · B·A.
    pub(super) fn read(files: &ModelFiles) -> Result<Self, LoadError> {
        if !files.exists(NAME) && files.exists("config.json") {
            let hint = ": the folder holds a model and no adapter; --model takes it".to_owned();
            return Err(LoadError::FileMissing { path: files.path(NAME), hint });
        }
        if let Some(inner) = files.folder().filter(|_| !files.exists(NAME)).and_then(adapter_inside) {
            let hint = format!(": the folder {inner} in it has one; give that");
            return Err(LoadError::FileMissing { path: files.path(NAME), hint });
        }
        let fields = Fields { files, fields: files.json(NAME)? };
        let kind = fields.fields.get("peft_type").and_then(Value::as_str).unwrap_or("absent");
        if kind != "LORA" {
            return Err(fields.refuse("peft_type", &format!("is {kind}; only LORA is supported: {WAY_OUT}")));
        }
        fields.check_start()?;
        fields.check_others()?;
        match fields.fields.get("bias") {
            None | Some(Value::Null) => {}
            Some(Value::String(bias)) if bias == "none" => {}
            Some(bias) => {
                return Err(fields.refuse("bias", &format!("is {bias}; only none is supported: {WAY_OUT}")));
            }
        }
        Ok(Self {
            rank: fields.number("r")?,
            alpha: fields.number("lora_alpha")?,
            ranks: fields.patterns("rank_pattern")?,
            alphas: fields.patterns("alpha_pattern")?,
            stabilised: fields.flag("use_rslora")?,
            ties_head: fields.flag("ensure_weight_tying")?,
        })
    }

    /// Refuses `ensure_weight_tying`, for an adapter that changes the embedding or the head of a base that ties them.
    ///
    /// # Errors
    /// It is set.
    pub(super) fn check_untied(&self, files: &ModelFiles) -> Result<(), LoadError> {
        if !self.ties_head {
            return Ok(());
        }
        let reason = format!("is true, and the base ties its head to the embedding: {WAY_OUT}");
        Err(refuse(files, "ensure_weight_tying", &reason))
    }

    /// Rank and scale of the factors of a module, by its whole name in the base.
    ///
    /// # Errors
    /// Several patterns say different things about it.
    pub(super) fn rank_and_scale(&self, module: &str, files: &ModelFiles) -> Result<(usize, f64), LoadError> {
        let value = |field, patterns: &[(Regex, f64)], standard| {
            let mut matching = patterns.iter().filter(|(pattern, _)| pattern.is_match(module));
            let Some((_, value)) = matching.next() else { return Ok(standard) };
            if matching.all(|(_, other)| other == value) {
                return Ok(*value);
            }
            let reason =
                format!("has several patterns with different values for `{module}`; keep one of them");
            Err(refuse(files, field, &reason))
        };
        let rank: f64 = value("rank_pattern", &self.ranks, self.rank)?;
        let alpha = value("alpha_pattern", &self.alphas, self.alpha)?;
        Ok((rank as usize, alpha / if self.stabilised { rank.sqrt() } else { rank }))
    }
}

/// The fields of the file.
struct Fields<'a> {
    files: &'a ModelFiles,
    fields: Map<String, Value>,
}

impl Fields<'_> {
    fn refuse(&self, field: &str, reason: &str) -> LoadError {
        refuse(self.files, field, reason)
    }

    /// Some ways to begin a training take a part of the base's weights out of them. PEFT repeats that when it loads
    /// the adapter, and the factors alone do not say what was taken.
    fn check_start(&self) -> Result<(), LoadError> {
        let plain = match self.fields.get("init_lora_weights") {
            None | Some(Value::Null | Value::Bool(_)) => true,
            Some(Value::String(start)) => PLAIN_STARTS.contains(&start.as_str()),
            Some(_) => false,
        };
        if plain {
            return Ok(());
        }
        let start = &self.fields["init_lora_weights"];
        let reason = format!(
            "is {start}, which changes the base's weights as well; make a plain LoRA of it with PEFT's \
             save_pretrained(…, path_initial_model_for_weight_conversion=…), or {WAY_OUT}"
        );
        Err(self.refuse("init_lora_weights", &reason))
    }

    /// Refuses every other field that asks for something: also what later versions of PEFT add.
    fn check_others(&self) -> Result<(), LoadError> {
        let asks = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        };
        let read = |name: &str| WITHOUT_EFFECT.contains(&name) || COMPUTED.contains(&name);
        match self.fields.iter().find(|(name, value)| asks(value) && !read(name)) {
            Some((name, _)) => Err(self.refuse(name, &format!("is set, and is not supported: {WAY_OUT}"))),
            None => Ok(()),
        }
    }

    fn flag(&self, field: &str) -> Result<bool, LoadError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.refuse(field, &format!("is {other}; it must be true or false"))),
        }
    }

    fn number(&self, field: &str) -> Result<f64, LoadError> {
        let value = self.fields.get(field).and_then(Value::as_f64);
        value.filter(|value| *value > 0.0).ok_or_else(|| self.refuse(field, "must be a number above 0"))
    }

    /// Patterns of module names with a number each. A pattern is a regular expression for the end of a name, from a
    /// dot or the start on.
    fn patterns(&self, field: &str) -> Result<Vec<(Regex, f64)>, LoadError> {
        let patterns = match self.fields.get(field) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(patterns)) => patterns,
            Some(_) => return Err(self.refuse(field, "must be an object of numbers above 0")),
        };
        let pattern = |(key, value): (&String, &Value)| {
            let value = value.as_f64().filter(|value| *value > 0.0);
            let value = value.ok_or_else(|| self.refuse(field, "must be an object of numbers above 0"))?;
            let pattern = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).map_err(|_| {
                let reason = "which is no regular expression without look-around";
                self.refuse(field, &format!("holds `{key}`, {reason}: {WAY_OUT}"))
            })?;
            Ok((pattern, value))
        };
        patterns.iter().map(pattern).collect()
    }
}

/// The name of a folder in a folder that holds an adapter: trainers save one for each checkpoint.
fn adapter_inside(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| folder.join(name).join(NAME).is_file()).max()
}

fn refuse(files: &ModelFiles, field: &str, reason: &str) -> LoadError {
    LoadError::Field { path: files.path(NAME), field: one_line(&field), reason: one_line(&reason) }
}
