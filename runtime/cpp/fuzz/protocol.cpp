// Misuse of the step-wise protocol: each byte is a call of the interface, the bytes behind it choose its arguments,
// right and wrong ones. The engine is a formula. Whatever the order, a failure is told, a run that failed draws no
// image, what is handed out can be read, and all memory is given back.
#include <cmath>
#include <cstring>
#include <vector>

#include "fuzz/given_options.h"
#include "fuzz/target.h"
#include "ldm_runtime.h"
#include "tests/files.h"

namespace {

struct Kit {
    std::string manifest = read_file(golden_path("package/manifest.json"));
    std::string tokenizer = read_file(golden_path("package/tokenizer/tokenizer.json"));
    ldm_context* context = nullptr;
    ldm_package* package = nullptr;

    Kit() {
        ldm_text text{tokenizer.data(), tokenizer.size()};
        REQUIRE(ldm_context_create(nullptr, &context) == LDM_OK);
        REQUIRE(ldm_package_parse(context, {manifest.data(), manifest.size()}, &text, 1, &package) == LDM_OK);
    }
    ~Kit() {
        ldm_package_free(package);
        ldm_context_free(context);
    }
};

const Kit& kit() {
    static const Kit its;
    return its;
}

// An output as a task asked for it, and the numbers that are given for it.
struct Output {
    std::string name;
    ldm_tensor tensor;
    std::vector<float> numbers;
};

class Session {
public:
    explicit Session(Bytes& bytes) : bytes_(bytes) {
        counted_.room = std::size_t{64} << 20;
        ldm_context_options options;
        ldm_context_options_init(&options, sizeof options);
        options.allocate = FailingAllocator::allocate;
        options.release = FailingAllocator::release;
        options.memory_user = &counted_;
        options.log = [](void*, ldm_log_level, const char* text) { REQUIRE(std::strlen(text) > 0); };
        REQUIRE(ldm_context_create(&options, &context_) == LDM_OK);
    }
    ~Session() {
        ldm_run_free(run_);
        ldm_context_free(context_);
        REQUIRE(counted_.alive == 0 && counted_.bytes == 0);
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    void call() {
        switch (bytes_.next() % 16) {
            case 0: create(); break;
            case 1: next(); break;
            case 2: give(); break;
            case 3: give_wrong(); break;
            case 4: finish(); break;
            case 5: preview(); break;
            case 6: image(); break;
            case 7: latents(); break;
            case 8: metadata(); break;
            case 9: cancel(); break;
            case 10: seed(); break;
            case 11: plan(); break;
            case 12: next_with_another_size(); break;
            case 13: counted_.allowed = counted_.made + bytes_.next(); break;
            case 14: counted_.allowed = -1; break;
            case 15: parse(); break;
        }
    }

private:
    // A failure has a code and a sentence; no failure has none. Memory that ran out is told where it did alone.
    ldm_status told(ldm_status status) {
        bool is_ok = status == LDM_OK;
        REQUIRE((ldm_error_code(context_)[0] == '\0') == is_ok && (ldm_error_text(context_)[0] == '\0') == is_ok);
        REQUIRE(status != LDM_NO_MEMORY || counted_.was_refused);
        REQUIRE(status != LDM_OTHER);
        return status;
    }

    void create() {
        ldm_run_free(run_);
        run_ = nullptr;
        outputs_.clear();
        has_image_ = is_done_ = is_cancelled_ = false;
        over_ = LDM_OK;
        GivenOptions given(bytes_);
        told(ldm_run_create(context_, kit().package, &given.options, &run_));
        REQUIRE((run_ != nullptr) == (ldm_error_code(context_)[0] == '\0'));
    }

    ldm_status next() {
        ldm_task task;
        ldm_task_init(&task, sizeof task);
        return take(told(ldm_run_next(context_, run_, &task)), task);
    }

    // What a call that takes the run on may say: one that failed, or was cancelled, fails so for ever. `ends`: whether
    // it may end here.
    void judge(ldm_status status, bool ends) {
        if (run_ == nullptr) {
            REQUIRE(status == LDM_MISUSE);
        } else if (over_ != LDM_OK) {
            REQUIRE(status == over_ || (status == LDM_MISUSE && !ends));
        } else if (is_cancelled_) {
            REQUIRE(status == LDM_CANCELLED || (status == LDM_MISUSE && !ends));
        } else {
            REQUIRE(status != LDM_CANCELLED);
            if (ends && status != LDM_OK && status != LDM_MISUSE) over_ = status;
        }
    }

    ldm_status take(ldm_status status, const ldm_task& task) {
        judge(status, true);
        if (status != LDM_OK) return status;
        REQUIRE(0 <= task.step && task.step <= task.steps && 0 <= task.evaluations);
        REQUIRE(!is_done_ || task.kind == LDM_TASK_DONE);
        outputs_.clear();
        kind_ = task.kind;
        is_done_ = is_done_ || kind_ == LDM_TASK_DONE;
        has_image_ = has_image_ || kind_ == LDM_TASK_DONE || kind_ == LDM_TASK_PREVIEW;
        if (kind_ == LDM_TASK_EVALUATE) keep(task);
        return status;
    }

    // Read all that the task says, and keep what it wants.
    void keep(const ldm_task& task) {
        REQUIRE(std::strlen(task.component) > 0 && task.input_count > 0 && task.output_count > 0);
        float sum = 0.0f;
        for (size_t index = 0; index < task.input_count; ++index) {
            const ldm_tensor& input = task.inputs[index];
            REQUIRE(std::strlen(input.name) > 0 && input.data != nullptr && input.rank >= 0 && input.rank <= 4);
            if (input.element_type != LDM_FLOAT32) continue;
            const auto* numbers = static_cast<const float*>(input.data);
            for (size_t at = 0; at < input.bytes / sizeof(float); ++at) {
                REQUIRE(std::isfinite(numbers[at]));
                sum += numbers[at];
            }
        }
        for (size_t index = 0; index < task.output_count; ++index) {
            Output output{task.outputs[index].name, task.outputs[index], {}};
            output.numbers.resize(output.tensor.bytes / sizeof(float));
            for (size_t at = 0; at < output.numbers.size(); ++at) {
                output.numbers[at] = std::sin(sum + static_cast<float>(at));
            }
            outputs_.push_back(output);
        }
    }

    std::vector<ldm_tensor> tensors() {
        std::vector<ldm_tensor> all;
        for (Output& output : outputs_) {
            all.push_back(output.tensor);
            all.back().name = output.name.c_str();
            all.back().data = output.numbers.data();
        }
        return all;
    }

    ldm_status give() {
        std::vector<ldm_tensor> all = tensors();
        bool is_asked = !all.empty();
        return given(told(ldm_run_give(context_, run_, is_asked ? all.data() : nullptr, all.size())), is_asked);
    }

    // is_right: what was asked for was given.
    ldm_status given(ldm_status status, bool is_right) {
        bool ends = status == LDM_NOT_FINITE || status == LDM_NO_MEMORY || (is_right && status != LDM_OK);
        judge(status, ends);
        if (outputs_.empty()) REQUIRE(status != LDM_OK);
        if (is_right && over_ == LDM_OK && !is_cancelled_) REQUIRE(status == LDM_OK);
        if (status == LDM_OK) outputs_.clear();
        return status;
    }

    // The outputs with one thing wrong.
    void give_wrong() {
        std::vector<ldm_tensor> all = tensors();
        if (all.empty()) return;
        ldm_tensor& tensor = all[bytes_.next() % all.size()];
        std::vector<float> numbers(tensor.bytes / sizeof(float) + 4, 0.5f);
        tensor.data = numbers.data();
        switch (bytes_.next() % 12) {
            case 0: tensor.data = nullptr; break;
            case 1: tensor.name = nullptr; break;
            case 2: tensor.name = "another"; break;
            case 3: tensor.rank = bytes_.of({0, 1, 5, -1, 1 << 30}); break;
            case 4: tensor.shape[bytes_.next() % 4] += bytes_.of({1, -1, 1000, -1000}); break;
            case 5: tensor.shape[1] = bytes_.of<int64_t>({0, -1, INT64_MAX, INT64_MIN}); break;
            case 6: tensor.element_type = bytes_.of({0, 2, 3, 4, -1, 1000}); break;
            case 7: numbers[bytes_.next() % (numbers.size() - 4)] = bytes_.of<float>({NAN, INFINITY, -INFINITY}); break;
            case 8: all.pop_back(); break;
            case 9: all.insert(all.begin(), all.back()); break;  // the same twice
            case 10: tensor.bytes = bytes_.of<size_t>({0, 1, tensor.bytes - 4, tensor.bytes + 4, SIZE_MAX}); break;
            case 11: all.clear(); break;
        }
        bool is_finite = true;
        for (float number : numbers) is_finite = is_finite && std::isfinite(number);
        ldm_status status = told(ldm_run_give(context_, run_, all.empty() ? &tensor_ : all.data(), all.size()));
        if (!is_finite) REQUIRE(status != LDM_OK);
        if (status == LDM_NOT_FINITE && over_ == LDM_OK) REQUIRE(!is_finite);
        given(status, false);
    }

    // Take the run to its end, as a host does that does nothing wrong.
    void finish() {
        for (int turn = 0; turn < 64 && next() == LDM_OK && kind_ != LDM_TASK_DONE; ++turn) {
            if (kind_ == LDM_TASK_EVALUATE && give() != LDM_OK) return;
        }
    }

    void next_with_another_size() {
        struct {
            ldm_task task;
            char newer[64];
        } longer;
        std::memset(&longer, 0, sizeof longer);
        longer.task.struct_size = bytes_.of<size_t>({sizeof longer, 0, 3, 12, sizeof(ldm_task) + 1, 4104, SIZE_MAX});
        bool is_size = longer.task.struct_size == sizeof longer;
        ldm_status status = told(ldm_run_next(context_, run_, &longer.task));
        if (is_size) {
            take(status, longer.task);
        } else {
            REQUIRE(status != LDM_OK && longer.task.component == nullptr);  // and nothing was told
            judge(status, status != LDM_MISUSE);
        }
    }

    // No failure of a preview ends a run.
    void preview() { judge(told(ldm_run_preview(context_, run_)), false); }

    void image() {
        ldm_image found;
        ldm_image_init(&found, sizeof found);
        if (told(ldm_run_image(context_, run_, bytes_.of<size_t>({0, 1, 2, SIZE_MAX}), &found)) != LDM_OK) return;
        REQUIRE(has_image_ && over_ == LDM_OK);  // the last image, or a preview
        const auto* pixels = static_cast<const unsigned char*>(found.pixels);
        std::size_t sum = 0;
        for (int at = 0; at < found.width * found.height * found.channels; ++at) sum += pixels[at];
        REQUIRE(sum > 0);
    }

    void latents() {
        const float* numbers = nullptr;
        int64_t shape[4] = {0, 0, 0, 0};
        if (told(ldm_run_latents(context_, run_, &numbers, shape)) != LDM_OK) return;
        for (int64_t at = 0; at < shape[0] * shape[1] * shape[2] * shape[3]; ++at) REQUIRE(std::isfinite(numbers[at]));
    }

    void metadata() {
        const char *const *keys = nullptr, *const *values = nullptr;
        size_t count = 0, image = bytes_.of<size_t>({0, 1, SIZE_MAX});
        if (told(ldm_run_metadata(context_, run_, image, &keys, &values, &count)) != LDM_OK) return;
        REQUIRE(count > 0);
        for (size_t at = 0; at < count; ++at) REQUIRE(std::strlen(keys[at]) > 0 && std::strlen(values[at]) < 100000);
    }

    // A run that is over stays as it is.
    void cancel() {
        ldm_run_cancel(run_);
        is_cancelled_ = is_cancelled_ || (run_ != nullptr && !is_done_ && over_ == LDM_OK);
    }

    void seed() {
        uint64_t found = 0;
        size_t image = bytes_.of<size_t>({0, 1, 2, SIZE_MAX});
        bool is_there = image < ldm_run_image_count(run_);
        REQUIRE((told(ldm_run_seed(context_, run_, image, &found)) == LDM_OK) == is_there);
    }

    void plan() {
        const char* json = nullptr;
        const char* sampler = bytes_.of<const char*>({nullptr, "unipc", "dpmpp_sde", "nothing"});
        int32_t steps = bytes_.of({0, 1, 3, -1, 1 << 30}), start = bytes_.of({0, 1, -1});
        bool is_told = told(ldm_plan_json(context_, kit().package, sampler, steps, start, &json)) == LDM_OK;
        REQUIRE(is_told ? std::strlen(json) > 0 : json == nullptr);
    }

    // A package of its own, which memory may not be enough for.
    void parse() {
        if (has_parsed_) return;
        has_parsed_ = true;
        ldm_package* package = nullptr;
        ldm_text text{kit().tokenizer.data(), kit().tokenizer.size() - bytes_.of<size_t>({0, 0, 1})};
        ldm_text manifest{kit().manifest.data(), kit().manifest.size() - bytes_.of<size_t>({0, 0, 1})};
        ldm_status status = told(ldm_package_parse(context_, manifest, &text, bytes_.of<size_t>({1, 1, 0}), &package));
        REQUIRE((status == LDM_OK) == (package != nullptr));
        ldm_package_free(package);
    }

    Bytes& bytes_;
    FailingAllocator counted_;
    ldm_context* context_ = nullptr;
    ldm_run* run_ = nullptr;
    int32_t kind_ = LDM_TASK_DONE;  // of the last task
    ldm_tensor tensor_{};
    std::vector<Output> outputs_;  // that the last task wants, until they are given
    ldm_status over_ = LDM_OK;     // the failure that ended the run
    bool is_done_ = false, is_cancelled_ = false, has_image_ = false, has_parsed_ = false;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes{data, size};
    Session session(bytes);
    for (int calls = 0; bytes.left > 0 && calls < 64; ++calls) session.call();
    return 0;
}
