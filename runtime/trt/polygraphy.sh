
usage() {
    cat >&2 <<EOF
bash polygraphy.sh STEP       $graph.onnx of $bundle
  golden             on ONNX Runtime, against the values of the bundle's sample
  golden --trt       the same, and on TensorRT
  engine             the compiled engine against the values of the sample
  layers             every layer on ONNX Runtime and on TensorRT: stops at the first that differs
  reduce             cuts the graph down to the smallest one that differs on TensorRT: reduced.onnx
  inspect            prints what is in reduced.onnx
  keep               saves what every layer gives on ONNX Runtime, which reduce does by itself: layers.json
  layers --load-outputs layers.json, reduce --onnxrt
                     without TensorRT: what differs here from a layers.json of another machine
EOF
    exit 2
}

run() {
    echo "+ $*" >&2
    "$@"
}

# Protobuf ends at 2 GB, and Polygraphy edits a graph together with its weights.
require_editable() {
    ((bytes < 2 ** 31)) && return
    echo "$graph.onnx and its weights have $bytes bytes, Polygraphy edits graphs below 2147483648:" \
        "build the bundle in more pieces (build_engines.py --blocks N)" >&2
    exit 2
}

# All values, and the same as inputs: graphs begin and end anywhere when they are cut.
keep() {
    run polygraphy run "$onnx" --onnxrt "${as_written[@]}" --load-inputs inputs.json --onnx-outputs '*' \
        --save-outputs layers.partial.json
    run polygraphy data merge inputs.json layers.partial.json -o layers-inputs.json
    mv layers.partial.json layers.json
}

cd "$(dirname "${BASH_SOURCE[0]}")"
command -v polygraphy >/dev/null || { echo "Polygraphy is missing: pip install 'mobilevlm[polygraphy]'" >&2; exit 2; }
onnx=$bundle/$graph.onnx
[ -f "$onnx" ] || {
    echo "there is no $onnx: copy the whole bundle, or let runtime/verify.py --polygraphy write this script again" >&2
    exit 2
}
# ONNX Runtime's own rewriting would compute int4 layers with int8 activations.
as_written=(--graph-optimization-level ORT_DISABLE_ALL)
like_the_build=(--strongly-typed --max-aux-streams 0)
fixed=() static=()
if ((${#shapes[@]})); then
    fixed=(--input-shapes "${shapes[@]}")
    static=(--model-input-shapes "${shapes[@]}")
fi
golden=(--load-inputs inputs.json --load-outputs outputs.json)
alike=(--compare snr --snr-threshold "$device_floor_db")
step=${1:-}
shift || usage
case $step in
    golden)
        [ $# -gt 0 ] || alike=(--compare snr --snr-threshold "$floor_db")
        run polygraphy run "$onnx" --onnxrt "$@" "${as_written[@]}" "${like_the_build[@]}" "${fixed[@]}" \
            "${golden[@]}" "${alike[@]}"
        ;;
    engine)
        run polygraphy run "$bundle/$graph.engine" --trt --optimization-profile "$profile" \
            "${golden[@]}" "${alike[@]}"
        ;;
    layers)
        require_editable
        [ $# -gt 0 ] || set -- --trt
        run polygraphy run "$onnx" --onnxrt "$@" "${as_written[@]}" "${like_the_build[@]}" "${fixed[@]}" \
            --onnx-outputs "${values[@]}" --trt-outputs "${values[@]}" --load-inputs inputs.json \
            "${alike[@]}" --fail-fast
        ;;
    reduce) # a cut that TensorRT refuses to build is not the failure: differing outputs are
        require_editable
        [ -f layers.json ] || keep
        run polygraphy debug reduce "$onnx" --output reduced.onnx "${static[@]}" --load-inputs layers-inputs.json \
            --hide-fail-output --fail-regex 'Mismatched outputs' --check polygraphy run polygraphy_debug.onnx \
            "${1:---trt}" "${as_written[@]}" "${like_the_build[@]}" --load-inputs layers-inputs.json \
            --load-outputs layers.json "${alike[@]}"
        ;;
    keep)
        require_editable
        keep
        ;;
    inspect)
        [ -f reduced.onnx ] || { echo "there is no reduced.onnx yet: bash polygraphy.sh reduce" >&2; exit 2; }
        run polygraphy inspect model reduced.onnx --show layers attrs
        ;;
    *) usage ;;
esac
