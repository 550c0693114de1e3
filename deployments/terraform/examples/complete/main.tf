terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.46"
    }
  }
}

provider "aws" {
  region = var.region
}

variable "region" {
  description = "Region to deploy to."
  type        = string
  default     = "eu-west-1"
}

variable "oidc_issuer" {
  description = "Issuer of the tokens."
  type        = string
}

variable "webhook_secret" {
  description = "Secret that signs the webhook: whsec_ and the base64 of 24 to 64 bytes."
  type        = string
  sensitive   = true
}

variable "certificate_arn" {
  description = "Certificate of api.example.com, in the region."
  type        = string
}

resource "aws_sns_topic" "alarms" {
  name = "jobgate-alarms"
}

module "jobgate" {
  source = "../.."

  name                = "jobgate-prod"
  packages_dir        = "${path.root}/../../../../dist"
  lambda_architecture = "arm64"
  tags                = { team = "platform" }

  oidc_issuer     = var.oidc_issuer
  oidc_audience   = ["jobgate"]
  oidc_settings   = { OIDC_LEEWAY = "30s" }
  access_policy   = file("${path.module}/access-policy.json")
  authorizer_type = "TOKEN"
  authorizer_ttl  = 60

  stage_name       = "v1"
  cors_origins     = ["https://app.example.com"]
  throttling       = { rate = 100, burst = 200 }
  route_throttling = { "POST /jobs" = { rate = 50, burst = 100 } }
  domain           = { name = "api.example.com", certificate_arn = var.certificate_arn, base_path = "jobgate" }

  worker_delivery            = "sqs"
  worker_timeout             = 300
  worker_batch_size          = 5
  worker_maximum_concurrency = 20
  reserved_concurrency       = { auth = 50, jobs = 50, worker = 20 }
  memory                     = { worker = 1024 }
  worker_environment         = { REPORT_BUCKET = "reports" }

  retry_policies = [
    { jobs = "report.*", attempts = 5, base = "5s", max = "10m", timeout = "4m" },
    { jobs = "*", timeout = "1m" },
  ]
  webhooks = [{ jobs = "notify.*", url = "https://hooks.example.com/jobs", secret = var.webhook_secret }]

  create_kms_key      = true
  tracing             = true
  log_retention_days  = 90
  api_gateway_account = true
  alarm_topic_arn     = aws_sns_topic.alarms.arn
  alarm_thresholds    = { oldest_message = 3600 }
}

output "url" {
  description = "Where the API is."
  value       = module.jobgate.url
}

output "domain_target" {
  description = "What the DNS record of api.example.com is an alias of."
  value       = module.jobgate.domain_target
}
