# The table, in the shape that adapters/dynamodb has; a test keeps both equal.

resource "aws_dynamodb_table" "jobs" {
  name                        = "${var.name}-jobs"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {
    name = "pk"
    type = "S"
  }
  attribute {
    name = "owner"
    type = "S"
  }
  attribute {
    name = "all"
    type = "S"
  }
  attribute {
    name = "listed"
    type = "S"
  }
  attribute {
    name = "agenda"
    type = "S"
  }
  attribute {
    name = "agenda_at"
    type = "S"
  }

  # An owner's jobs, newest first.
  global_secondary_index {
    name               = "owner"
    hash_key           = "owner"
    range_key          = "listed"
    projection_type    = "INCLUDE"
    non_key_attributes = ["name", "status", "expires_at"]
  }

  # Everybody's jobs, in 16 shards.
  global_secondary_index {
    name               = "all"
    hash_key           = "all"
    range_key          = "listed"
    projection_type    = "INCLUDE"
    non_key_attributes = ["name", "status", "expires_at"]
  }

  # What is to be done about open and expired jobs, in 16 shards each.
  global_secondary_index {
    name            = "agenda"
    hash_key        = "agenda"
    range_key       = "agenda_at"
    projection_type = "KEYS_ONLY"
  }

  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  dynamic "server_side_encryption" {
    for_each = local.encrypt_with_kms ? [local.kms_key_arn] : []

    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }
}
