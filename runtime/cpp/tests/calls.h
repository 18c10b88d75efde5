// Records which arguments of the interface's functions were NULL, call by call: tests/cpp/test_library.py reads from it
// that each pointer was. To be included last.
#ifndef LDM_TESTS_CALLS_H
#define LDM_TESTS_CALLS_H

#include <set>
#include <string>
#include <type_traits>

#include "ldm_runtime.h"

// Lines such as "ldm_run_seed 0001": the name, and 1 for each argument that was NULL.
inline std::set<std::string> recorded_calls;

template <typename T>
bool is_null(const T& value) {
    if constexpr (std::is_pointer_v<T>) return value == nullptr;
    if constexpr (std::is_same_v<T, ldm_text>) return value.text == nullptr;
    return false;
}

template <typename Result, typename... Taken, typename... Given>
Result recorded(const char* name, Result (*function)(Taken...), Given... given) {
    std::string line = std::string(name) + " ";
    (line.push_back(is_null(static_cast<Taken>(given)) ? '1' : '0'), ...);
    recorded_calls.insert(line);
    return function(static_cast<Taken>(given)...);
}

// A name within its own macro is the function.
#define ldm_error_code(...) recorded("ldm_error_code", ldm_error_code, __VA_ARGS__)
#define ldm_error_text(...) recorded("ldm_error_text", ldm_error_text, __VA_ARGS__)
#define ldm_context_options_init(...) recorded("ldm_context_options_init", ldm_context_options_init, __VA_ARGS__)
#define ldm_context_create(...) recorded("ldm_context_create", ldm_context_create, __VA_ARGS__)
#define ldm_context_free(...) recorded("ldm_context_free", ldm_context_free, __VA_ARGS__)
#define ldm_package_options_init(...) recorded("ldm_package_options_init", ldm_package_options_init, __VA_ARGS__)
#define ldm_package_open(...) recorded("ldm_package_open", ldm_package_open, __VA_ARGS__)
#define ldm_package_parse(...) recorded("ldm_package_parse", ldm_package_parse, __VA_ARGS__)
#define ldm_package_free(...) recorded("ldm_package_free", ldm_package_free, __VA_ARGS__)
#define ldm_package_confirm(...) recorded("ldm_package_confirm", ldm_package_confirm, __VA_ARGS__)
#define ldm_package_name(...) recorded("ldm_package_name", ldm_package_name, __VA_ARGS__)
#define ldm_package_identity(...) recorded("ldm_package_identity", ldm_package_identity, __VA_ARGS__)
#define ldm_defaults_init(...) recorded("ldm_defaults_init", ldm_defaults_init, __VA_ARGS__)
#define ldm_package_defaults(...) recorded("ldm_package_defaults", ldm_package_defaults, __VA_ARGS__)
#define ldm_image_init(...) recorded("ldm_image_init", ldm_image_init, __VA_ARGS__)
#define ldm_run_options_init(...) recorded("ldm_run_options_init", ldm_run_options_init, __VA_ARGS__)
#define ldm_run_create(...) recorded("ldm_run_create", ldm_run_create, __VA_ARGS__)
#define ldm_run_free(...) recorded("ldm_run_free", ldm_run_free, __VA_ARGS__)
#define ldm_run_cancel(...) recorded("ldm_run_cancel", ldm_run_cancel, __VA_ARGS__)
#define ldm_run_image_count(...) recorded("ldm_run_image_count", ldm_run_image_count, __VA_ARGS__)
#define ldm_run_seed(...) recorded("ldm_run_seed", ldm_run_seed, __VA_ARGS__)
#define ldm_run_image(...) recorded("ldm_run_image", ldm_run_image, __VA_ARGS__)
#define ldm_run_latents(...) recorded("ldm_run_latents", ldm_run_latents, __VA_ARGS__)
#define ldm_run_metadata(...) recorded("ldm_run_metadata", ldm_run_metadata, __VA_ARGS__)
#define ldm_task_init(...) recorded("ldm_task_init", ldm_task_init, __VA_ARGS__)
#define ldm_run_next(...) recorded("ldm_run_next", ldm_run_next, __VA_ARGS__)
#define ldm_run_give(...) recorded("ldm_run_give", ldm_run_give, __VA_ARGS__)
#define ldm_run_preview(...) recorded("ldm_run_preview", ldm_run_preview, __VA_ARGS__)
#define ldm_engine_options_init(...) recorded("ldm_engine_options_init", ldm_engine_options_init, __VA_ARGS__)
#define ldm_engine_open(...) recorded("ldm_engine_open", ldm_engine_open, __VA_ARGS__)
#define ldm_engine_free(...) recorded("ldm_engine_free", ldm_engine_free, __VA_ARGS__)
#define ldm_engine_evaluate(...) recorded("ldm_engine_evaluate", ldm_engine_evaluate, __VA_ARGS__)
#define ldm_engine_draw(...) recorded("ldm_engine_draw", ldm_engine_draw, __VA_ARGS__)
#define ldm_engine_variant(...) recorded("ldm_engine_variant", ldm_engine_variant, __VA_ARGS__)
#define ldm_run_save_png(...) recorded("ldm_run_save_png", ldm_run_save_png, __VA_ARGS__)
#define ldm_image_read_png(...) recorded("ldm_image_read_png", ldm_image_read_png, __VA_ARGS__)
#define ldm_image_free(...) recorded("ldm_image_free", ldm_image_free, __VA_ARGS__)
#define ldm_plan_json(...) recorded("ldm_plan_json", ldm_plan_json, __VA_ARGS__)
#define ldm_verify(...) recorded("ldm_verify", ldm_verify, __VA_ARGS__)
#define ldm_report_free(...) recorded("ldm_report_free", ldm_report_free, __VA_ARGS__)
#define ldm_report_passed(...) recorded("ldm_report_passed", ldm_report_passed, __VA_ARGS__)
#define ldm_report_table(...) recorded("ldm_report_table", ldm_report_table, __VA_ARGS__)
#define ldm_report_json(...) recorded("ldm_report_json", ldm_report_json, __VA_ARGS__)
#define ldm_report_failure(...) recorded("ldm_report_failure", ldm_report_failure, __VA_ARGS__)
#define ldm_package_describe(...) recorded("ldm_package_describe", ldm_package_describe, __VA_ARGS__)
#define ldm_check_output(...) recorded("ldm_check_output", ldm_check_output, __VA_ARGS__)

#endif
