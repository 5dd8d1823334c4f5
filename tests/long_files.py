"""Files of tests that take more than some ten seconds, the longest first: begun first, and left out of `--fast`.

They build bundles, train, start many commands or run a simulator. A file that is missing here costs time alone.
"""

LONG_FILES = tuple(
    f"tests/{name}.py"
    for name in """
        export/test_coded_stage train/demo/test_train_demo runtime/test_qnn engines/test_judge runtime/test_choose
        test_docs export/test_build_refusals train/demo/test_demo_model runtime/test_chat faults/test_build_faults
        runtime/test_benchmark runtime/test_smoke train/test_vision_pretrain tensorrt_double/test_same_calls
        mobilevlm/test_image export/test_quantized test_run_sh train/demo/test_wide engines/test_smaller_decoders
        runtime/test_trt_demo mobilevlm/test_model train/test_resume export/test_phone_kit export/test_snapdragon_cpu
        faults/test_device_faults export/test_build test_packaging eval/test_run export/test_calibration
        engines/test_verdicts runtime/test_polygraphy runtime/test_prefix_cache engines/test_rtx_target
        runtime/test_prefill train/test_finetune jetson/test_benchmark engines/test_tensorrt_compile
        mobilevlm/test_checkpoint train/test_clip export/test_tensorrt_vision export/test_qdq
        export/test_architectures test_one_file_additions eval/test_calibrate_choices runtime/test_closed_question
        mobilevlm/test_tensors_memory mobilevlm/test_tokenizer runtime/test_sampling train/test_texts
        export/test_tensorrt_build jetson/test_prediction runtime/test_polygraphy_script runtime/test_watch
        runtime/page/test_asking runtime/page/test_images runtime/page/test_layout runtime/server/test_clients
        runtime/server/test_engines runtime/server/test_openai_client runtime/server/test_remote_images
        runtime/server/test_security export/test_deploy runtime/test_json_answers export/test_calibration_rows
        runtime/test_session_threads runtime/test_session_process runtime/test_chat_pipe
        runtime/test_sampling_properties runtime/test_finite runtime/test_arguments faults/test_soak
        faults/test_network faults/test_limits faults/test_habits faults/test_failing_machine
        export/hf_layout/test_layout export/hf_layout/test_clients runtime/page/test_transformers_js
        mobilevlm/test_image_limits runtime/server/test_image_process faults/test_kills
    """.split()
)
