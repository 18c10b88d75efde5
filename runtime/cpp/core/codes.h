// The stable codes of failures, the same as those of Python, and two more; docs/outputs.md says what each means. A
// test holds them equal.
#ifndef LDM_CORE_CODES_H
#define LDM_CORE_CODES_H

namespace ldm::codes {

inline constexpr const char* package_missing = "package.missing";

inline constexpr const char* file_missing = "file.missing";
inline constexpr const char* file_unreadable = "file.unreadable";
inline constexpr const char* file_kind = "file.kind";
inline constexpr const char* file_link = "file.link";
inline constexpr const char* file_lfs_stub = "file.lfs-stub";
inline constexpr const char* file_too_large = "file.too-large";
inline constexpr const char* file_size = "file.size";
inline constexpr const char* file_hash = "file.hash";
inline constexpr const char* file_changed = "file.changed";
inline constexpr const char* file_unlisted = "file.unlisted";

inline constexpr const char* json_encoding = "json.encoding";
inline constexpr const char* json_syntax = "json.syntax";
inline constexpr const char* json_duplicate_key = "json.duplicate-key";
inline constexpr const char* json_number = "json.number";
inline constexpr const char* json_surrogate = "json.surrogate";
inline constexpr const char* json_depth = "json.depth";
inline constexpr const char* json_unknown_key = "json.unknown-key";
inline constexpr const char* json_missing_key = "json.missing-key";
inline constexpr const char* json_type = "json.type";

inline constexpr const char* manifest_version = "manifest.version";
inline constexpr const char* manifest_name = "manifest.name";
inline constexpr const char* manifest_path = "manifest.path";
inline constexpr const char* manifest_digest = "manifest.digest";
inline constexpr const char* manifest_range = "manifest.range";
inline constexpr const char* manifest_file = "manifest.file";
inline constexpr const char* manifest_axis = "manifest.axis";
inline constexpr const char* manifest_tensor = "manifest.tensor";
inline constexpr const char* manifest_role = "manifest.role";
inline constexpr const char* manifest_text = "manifest.text";
inline constexpr const char* manifest_image = "manifest.image";
inline constexpr const char* manifest_sampler = "manifest.sampler";
inline constexpr const char* manifest_artefact = "manifest.artefact";
inline constexpr const char* manifest_plan = "manifest.plan";
inline constexpr const char* manifest_keys = "manifest.keys";
inline constexpr const char* manifest_variant = "manifest.variant";

inline constexpr const char* schedule_invalid = "schedule.invalid";

inline constexpr const char* weights_header = "weights.header";
inline constexpr const char* weights_tensor = "weights.tensor";
inline constexpr const char* weights_layout = "weights.layout";

inline constexpr const char* graph_format = "graph.format";
inline constexpr const char* graph_external_data = "graph.external-data";
inline constexpr const char* graph_signature = "graph.signature";

inline constexpr const char* plan_format = "plan.format";
inline constexpr const char* plan_mismatch = "plan.mismatch";

inline constexpr const char* tokenizer_form = "tokenizer.form";
inline constexpr const char* tokenizer_vocabulary = "tokenizer.vocabulary";
inline constexpr const char* tokenizer_merges = "tokenizer.merges";
inline constexpr const char* tokenizer_added_tokens = "tokenizer.added-tokens";

inline constexpr const char* proof_invalid = "proof.invalid";

inline constexpr const char* request_invalid = "request.invalid";
inline constexpr const char* request_path = "request.path";
inline constexpr const char* request_prompt = "request.prompt";
inline constexpr const char* request_size = "request.size";
inline constexpr const char* request_batch = "request.batch";
inline constexpr const char* request_image = "request.image";
inline constexpr const char* request_array = "request.array";
inline constexpr const char* request_sampler = "request.sampler";
inline constexpr const char* request_noise = "request.noise";
inline constexpr const char* request_engine = "request.engine";

inline constexpr const char* engine_failed = "engine.failed";
inline constexpr const char* engine_unavailable = "engine.unavailable";
inline constexpr const char* engine_profile = "engine.profile";

inline constexpr const char* result_not_finite = "result.not-finite";

inline constexpr const char* run_cancelled = "run.cancelled";

inline constexpr const char* output_refused = "output.refused";

inline constexpr const char* other_failure = "other.failure";
inline constexpr const char* other_memory = "other.memory";  // none is left
inline constexpr const char* other_misuse = "other.misuse";  // of the C interface: a NULL, a wrong order

}  // namespace ldm::codes

#endif
