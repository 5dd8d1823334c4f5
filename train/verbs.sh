# The training verbs of run.sh, which sources this file after `cd` to the repository root; $called_from is where the
# person stood, and their paths start there. The original's command line, folders and order of steps.

PYTHON=.venv/bin/python

refuse() {
    echo "run.sh: $*" >&2
    exit 2
}

# A path as the person typed it, absolute.
from_caller() {
    case "$1" in
        /*) echo "$1" ;;
        *) echo "$called_from/$1" ;;
    esac
}

# A directory that has to be there, or where it is not, OWNER/NAME on the model hub; $1 says what for.
directory() {
    local path
    path=$(from_caller "$2")
    if [ -d "$path" ]; then
        (cd "$path" && pwd) # without a / or .. at its end
    elif [[ $2 =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+$ ]]; then
        echo "$2"
    else
        refuse "$1: there is no directory $path"
    fi
}

# Refuses what makes no sense, then installs what is needed (`set_up`), then works.
# train ARCH TASK LANGUAGE_MODEL VISION_MODEL [OUTPUT_DIR] [--option value ...]
train() {
    arch=$1 task=${2:-}
    case "$task" in
        pretrain-finetune-test | pretrain | finetune | finetune.lora | test) ;;
        *) refuse "TASK is '$task'; it can be pretrain-finetune-test, pretrain, finetune, finetune.lora or test" ;;
    esac
    if [ "$task" = test ] && [ $# -eq 3 ]; then # a checkpoint from anywhere
        finetuned=$(directory CHECKPOINT_DIR "$3")
        set_up
        evaluate "$finetuned"
        return
    fi
    [ $# -ge 4 ] || refuse "usage: bash run.sh $arch $task LANGUAGE_MODEL VISION_MODEL [OUTPUT_DIR] [--option value ...]"
    # Assigned one by one: `local x=$(...)` would hide a refusal.
    language_model=$(directory LANGUAGE_MODEL "$3")
    vision_model=$(directory VISION_MODEL "$4")
    shift 4
    output=""
    if [ $# -gt 0 ] && [[ "$1" != -* ]]; then
        output=$(from_caller "$1")
        shift
    fi
    options=("$@") # for train/finetune.py
    name_outputs
    [ "$task" != test ] || [ -f "$finetuned/config.json" ] || refuse "$finetuned holds no model: run finetune first"
    set_up
    case "$task" in
        pretrain) pretrain ;;
        finetune) finetune ;;
        finetune.lora) finetune_lora ;;
        test) evaluate "$finetuned" ;;
        pretrain-finetune-test)
            # What would stop a later step stops here, before the first one takes hours.
            prepare_data "${generation}_stage1" "${generation}_stage2" benchmark
            pretrain
            finetune
            evaluate "$finetuned"
            ;;
    esac
}

# Sets what differs between V1 and V2, and between the sizes.
name_outputs() {
    case "$arch" in
        mobilevlm_v2_*) generation=v2 prefix=mobilevlm_v2 size="" ;;
        *) generation=v1 prefix=mobilevlm size=_${arch#mobilevlm} ;;
    esac
    if [ -z "$output" ]; then
        case "$task" in
            finetune* | test) refuse "OUTPUT_DIR is needed: $task starts from what earlier steps left in it" ;;
        esac
        output=$PWD/outputs/${arch}_$(date +%Y%m%d_%H%M%S)
    fi
    pretrained=$output/$prefix-1.pretrain
    finetuned=$output/$prefix-2.finetune
}

# Status 2, in prepare_data.py's own words, when something is missing.
prepare_data() { $PYTHON train/prepare_data.py --data data --for "$@"; }

pretrain() {
    echo "stage 1: $language_model -> $pretrained" >&2
    case "$generation" in
        v1) annotations=data/pretrain_data/blip_laion_cc_sbu_558k.json images=data/pretrain_data/images ;;
        v2) annotations=data/pretrain_data/share-captioner_coco_lcs_sam_1246k_1107.json images=data/pretrain_data ;;
    esac
    launch "${generation}_stage1" "$pretrained" --recipe "${generation}_stage1" --model "$language_model"
}

# stage_2 RECIPE OUT: V1 starts from the language model and the projector of stage 1, V2 from all of stage 1.
stage_2() {
    local recipe=$1 out=$2
    images=data/finetune_data
    if [ "$generation" = v1 ]; then
        [ -f "$pretrained/mm_projector.bin" ] || refuse "$pretrained/mm_projector.bin is missing: run pretrain first"
        base=$language_model annotations=data/finetune_data/llava_v1_5_mix665k.json
        set -- --projector "$pretrained/mm_projector.bin"
    else
        [ -f "$pretrained/config.json" ] || refuse "$pretrained holds no model: run pretrain first"
        base=$pretrained annotations=data/finetune_data/MobileVLM_V2_FT_Mix2M.json
        set --
    fi
    echo "stage 2: $base -> $out" >&2
    launch "${generation}_stage2" "$out" --recipe "$recipe" --model "$base" "$@"
}

finetune() { stage_2 "${generation}_stage2$size" "$finetuned"; }

finetune_lora() {
    stage_2 "${generation}_lora$size" "$finetuned-lora"
    echo "merging: $finetuned-lora -> $finetuned" >&2
    $PYTHON train/merge_lora.py "$base" "$finetuned-lora" "$finetuned"
}

# launch DATA_SET OUT ARGUMENTS...: trains on $annotations and $images, one process for each GPU, or a single one. What
# it prints also goes to OUT.log: OUT itself has to be empty, or a run to resume.
launch() {
    local data_set=$1 out=$2 gpus command=("$PYTHON" -u)
    shift 2
    gpus=$($PYTHON -c 'import torch; print(torch.cuda.device_count())')
    if [ "$gpus" -gt 1 ]; then
        command=(.venv/bin/accelerate launch --multi_gpu --num_machines 1 --num_processes "$gpus"
            --mixed_precision no --dynamo_backend no) # finetune.py's recipe decides on both
    fi
    # ${options[@]+...}: bash before 4.4 takes an empty array for an unset one.
    command+=(train/finetune.py "$@" --vision-tower "$vision_model" --data "$annotations" --images "$images"
        --out "$out" ${options[@]+"${options[@]}"})
    prepare_data "$data_set" || stopped $? "${command[@]}"
    mkdir -p "$output"
    "${command[@]}" 2>&1 | tee -a "$out.log"
}

# stopped STATUS COMMAND...: old web images are gone for good, so there has to be a way to train without them.
stopped() {
    if [ "$1" -eq 2 ] && [ -f "$annotations" ]; then
        echo "run.sh: nothing was trained. To train on the rows that can be used, run:$(printf ' %q' "${@:2}")" >&2
    fi
    exit "$1"
}

# The results lie beside the checkpoint, under a name of their own (the original's would be one for all in its folder);
# those of a hub id where eval/run.py puts them, in artifacts/eval.
evaluate() {
    local words=(--model "$1" --tasks all --data data)
    [ ! -d "$1" ] || words+=(--out "$1-evaluation")
    $PYTHON eval/run.py "${words[@]}"
}
