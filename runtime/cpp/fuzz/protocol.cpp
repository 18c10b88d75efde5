// Misuse of the step-wise protocol: each byte is a call of the interface, the bytes behind it choose its arguments, right
// and wrong ones. The engine is a formula. Whatever the order, a failure is told, a run that failed draws no image, what
// is handed out can be read, and all memory is given back.
#include <cmath>
#include <cstring>
#include <vector>

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

// The bytes of the input, one after the other; zeros behind its end.
struct Bytes {
    const std::uint8_t* data;
    std::size_t left;

    std::uint8_t next() {
        if (left == 0) return 0;
        --left;
        return *data++;
    }
    template <typename T, std::size_t N>
    T of(const T (&choices)[N]) { return choices[next() % N]; }
};

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
            case 5: told(ldm_run_preview(context_, run_)); break;
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
        static const unsigned char pixels[32 * 32 * 4] = {1, 2, 3, 255, 128};
        static const uint64_t seeds[] = {3, 0xFFFFFFFFFFFFFFFF};
        static const char* const prompts[] = {"a red apple", "(tree:1.2)", "x\xff"};
        ldm_run_free(run_);
        run_ = nullptr;
        outputs_.clear();
        is_drawn_ = is_done_ = is_over_ = is_cancelled_ = false;
        ldm_image picture;
        ldm_image_init(&picture, sizeof picture);
        picture.width = bytes_.of({32, 32, 32, 16, 0, -1});
        picture.height = bytes_.of({32, 32, 32, 9});
        picture.channels = bytes_.of({3, 4, 1, 5});
        picture.pixels = bytes_.of<const void*>({pixels, pixels, pixels, nullptr});
        ldm_run_options options;
        ldm_run_options_init(&options, sizeof options);
        options.prompt = bytes_.of<const char*>({"a red apple", "", "(tree:1.2) [sky] BREAK grass", "x\xff", nullptr});
        options.prompts = bytes_.of<const char* const*>({nullptr, nullptr, nullptr, prompts});
        options.prompt_count = bytes_.of<size_t>({2, 3, 0});
        options.negative = bytes_.of<const char*>({nullptr, "blue", "(no:0)"});
        options.count = bytes_.of({0, 1, 2, 3, -1});
        options.syntax = bytes_.of<const char*>({nullptr, "plain", "weighted", "other"});
        options.steps = bytes_.of({1, 2, 3, 0, -4});
        options.guidance = bytes_.of({1.0, 3.0, -1.0, static_cast<double>(INFINITY)});
        options.guidance_rescale = bytes_.of({0.0, 0.7, 2.0});
        options.guidance_from = bytes_.of({0.0, 0.5});
        options.sampler = bytes_.of<const char*>({"euler", "heun", "dpmpp_2m_sde", "ddim:clip_sample=true", "lms", "eular"});
        options.has_seed = 1;
        options.seed = bytes_.next();
        options.seeds = bytes_.of<const uint64_t*>({nullptr, nullptr, seeds});
        options.seed_count = bytes_.of<size_t>({2, 1, 0});
        options.noise = bytes_.of<const char*>({nullptr, "philox", "torch", "cuda", "white"});
        options.has_variation = bytes_.of({0, 0, 1});
        options.variation_strength = bytes_.of({0.3, 1.0, -1.0});
        options.width = bytes_.of({16, 32, 0, 17, -8});
        options.height = bytes_.of({16, 32, 0, 100000});
        options.images = bytes_.of<const ldm_image*>({nullptr, nullptr, &picture});
        options.image_count = bytes_.of<size_t>({1, 0});
        options.mask = bytes_.of<const ldm_image*>({nullptr, nullptr, &picture});
        options.strength = bytes_.of({static_cast<double>(NAN), 0.5, 1.0, 0.0, 7.0});
        options.stop_after = bytes_.of({0, 1, 2, -1});
        options.to_prompt = bytes_.of<const char*>({nullptr, nullptr, "a green tree"});
        options.share = bytes_.of({0.25, 1.0, 2.0});
        told(ldm_run_create(context_, kit().package, &options, &run_));
        REQUIRE((run_ != nullptr) == (ldm_error_code(context_)[0] == '\0'));
    }

    // A run that is over, or cancelled, never goes on, and says why each time.
    ldm_status next() {
        ldm_task task;
        ldm_task_init(&task, sizeof task);
        return take(told(ldm_run_next(context_, run_, &task)), task);
    }

    ldm_status take(ldm_status status, const ldm_task& task) {
        if (status != LDM_OK) {
            if (run_ == nullptr) REQUIRE(status == LDM_MISUSE);
            if (is_over_ && status != LDM_MISUSE) REQUIRE(status == over_);
            if (is_cancelled_ && !is_over_ && status != LDM_MISUSE) REQUIRE(status == LDM_CANCELLED);
            if (status != LDM_MISUSE && status != LDM_CANCELLED && !is_over_) {
                is_over_ = true;
                over_ = status;
            }
            return status;
        }
        REQUIRE(run_ != nullptr && !is_over_ && (!is_cancelled_ || is_done_));
        REQUIRE(0 <= task.step && task.step <= task.steps && 0 <= task.evaluations);
        outputs_.clear();
        kind_ = task.kind;
        is_done_ = task.kind == LDM_TASK_DONE;
        if (is_done_ || task.kind == LDM_TASK_PREVIEW) is_drawn_ = true;
        if (task.kind == LDM_TASK_EVALUATE) keep(task);
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
        ldm_status status = told(ldm_run_give(context_, run_, is_asked ? all.data() : nullptr, all.size()));
        if (!is_asked || run_ == nullptr) REQUIRE(status != LDM_OK);
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
        if (is_over_) REQUIRE(status == over_ || status == LDM_MISUSE || status == LDM_NO_MEMORY);
        if (status == LDM_NOT_FINITE && !is_over_) {
            REQUIRE(!is_finite);
            is_over_ = true;
            over_ = status;
        }
        if (status == LDM_OK) outputs_.clear();
    }

    // Take the run to its end, as a host does that does nothing wrong.
    void finish() {
        for (int turn = 0; turn < 64 && next() == LDM_OK && kind_ != LDM_TASK_DONE; ++turn) {
            if (kind_ == LDM_TASK_EVALUATE && give() != LDM_OK) return;
        }
    }

    void next_with_another_size() {
        ldm_task room[2];  // a longer one has a place
        ldm_task& task = room[0];
        ldm_task_init(&task, sizeof task);
        task.struct_size = bytes_.of<size_t>({0, 3, 8, 12, 16, sizeof task + 64, 4104});
        ldm_task whole = task;
        ldm_status status = told(ldm_run_next(context_, run_, &task));
        if (status == LDM_OK && task.struct_size < sizeof task) {  // what comes next stays untold
            is_drawn_ = is_done_ = true;
            outputs_.clear();
        } else {
            take(status, status == LDM_OK ? task : whole);
        }
    }

    void image() {
        ldm_image found;
        ldm_image_init(&found, sizeof found);
        if (told(ldm_run_image(context_, run_, bytes_.of<size_t>({0, 1, 2, SIZE_MAX}), &found)) != LDM_OK) return;
        REQUIRE(is_drawn_);  // the last image, or a preview
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

    void cancel() {
        ldm_run_cancel(run_);
        is_cancelled_ = run_ != nullptr;
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
    bool is_over_ = false, is_cancelled_ = false, is_drawn_ = false, is_done_ = false, has_parsed_ = false;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes{data, size};
    Session session(bytes);
    for (int calls = 0; bytes.left > 0 && calls < 64; ++calls) session.call();
    return 0;
}
