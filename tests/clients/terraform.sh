#!/usr/bin/env bash
# Terraform or OpenTofu with its state in the store: init, apply, a second directory that sees it, a held lock.
# No provider is needed, so nothing is downloaded. Where neither program is installed, `state.py` stands in for it.
# shellcheck source=tests/clients/place.sh disable=SC1091,SC2154
source "$(dirname "${BASH_SOURCE[0]}")/place.sh"

program=$(command -v terraform || command -v tofu) || fail "neither terraform nor tofu is installed"
export AWS_ACCESS_KEY_ID=$BARGE_S3_KEY AWS_SECRET_ACCESS_KEY=$BARGE_S3_SECRET
export CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1 TF_CLI_ARGS=-no-color TF_INPUT=0
unset TF_CLI_CONFIG_FILE
tf() { "$program" "$@"; }
tf version | sed -n 1p

python3 - "$here" "$bucket" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import store
store.connect().create_bucket(Bucket=sys.argv[2])
END

mkdir one two
cat >one/main.tf <<END
terraform {
  backend "s3" {
    bucket                      = "$bucket"
    key                         = "env/terraform.tfstate"
    region                      = "$REGION"
    endpoints                   = { s3 = "$BARGE_S3_ENDPOINT" }
    use_path_style              = true
    use_lockfile                = true
    skip_credentials_validation = true
    skip_metadata_api_check     = true
    skip_requesting_account_id  = true
    skip_region_validation      = true
  }
}
variable "text" {}
resource "terraform_data" "text" { input = var.text }
output "text" { value = terraform_data.text.output }
END
cp one/main.tf two/

step "init and apply"
tf -chdir=one init >init.log || fail "$(<init.log)"
tf -chdir=one apply -auto-approve -var text=first >apply.log || fail "$(<apply.log)"
[[ $(tf -chdir=one output -raw text) == first ]] || fail "another output"

step "a second directory sees it"
tf -chdir=two init >init.log || fail "$(<init.log)"
[[ $(tf -chdir=two output -raw text) == first ]] || fail "the state is not seen"
tf -chdir=two apply -auto-approve -var text=second >apply.log || fail "$(<apply.log)"
[[ $(tf -chdir=one output -raw text) == second ]] || fail "the new state is not seen"

step "a lock that is held"
python3 - "$here" "$bucket" put <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import store
info = b'{"ID":"held","Operation":"apply","Info":"","Who":"somebody","Version":"1","Created":"2026-01-01T00:00:00Z","Path":"p"}'
store.connect().put_object(Bucket=sys.argv[2], Key="env/terraform.tfstate.tflock", Body=info)
END
refuses tf -chdir=one apply -auto-approve -var text=third
found -F 'Error acquiring the state lock' refused.log || fail "refused for another reason: $(<refused.log)"
tf -chdir=one force-unlock -force held >/dev/null
tf -chdir=one apply -auto-approve -var text=third >apply.log || fail "$(<apply.log)"

step "workspaces"
tf -chdir=one workspace new staging >/dev/null
tf -chdir=one apply -auto-approve -var text=staged >apply.log || fail "$(<apply.log)"
[[ $(tf -chdir=one output -raw text) == staged ]] || fail "another output"
tf -chdir=one workspace select default >/dev/null
[[ $(tf -chdir=one output -raw text) == third ]] || fail "workspaces are mixed up"

step "destroy"
tf -chdir=one destroy -auto-approve -var text=third >apply.log || fail "$(<apply.log)"
remove_bucket
step "done"
