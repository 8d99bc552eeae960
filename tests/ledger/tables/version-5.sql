CREATE TABLE api_key (
    account TEXT NOT NULL,
    key_id TEXT NOT NULL,
    alias TEXT NOT NULL,
    label TEXT NOT NULL,
    creator TEXT NOT NULL,
    created_at BIGINT,
    is_listed BOOLEAN NOT NULL,
    last_used INTEGER,
    PRIMARY KEY (account, key_id)
);
INSERT INTO api_key (account, key_id, alias, label, creator, created_at, is_listed, last_used) VALUES ('prod', 'k1', 'production web', 'production web', 'ada', 1767312000000000, 1, NULL);
CREATE TABLE app_setting (
    account TEXT NOT NULL,
    owner TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    machine TEXT NOT NULL,
    keep_alive BIGINT,
    min_concurrency BIGINT,
    max_concurrency BIGINT,
    updated_at BIGINT,
    PRIMARY KEY (account, owner, app, environment)
);
CREATE TABLE balance (
    account TEXT NOT NULL,
    at BIGINT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (account, at)
);
INSERT INTO balance (account, at, amount) VALUES ('prod', 1795177800000000, 7374792800);
CREATE TABLE changed_day (
    scope INTEGER NOT NULL,
    day INTEGER NOT NULL,
    mark BIGINT NOT NULL,
    PRIMARY KEY (scope, day)
) WITHOUT ROWID;
CREATE TABLE fact (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
);
INSERT INTO fact (name, value) VALUES ('schema', '5');
INSERT INTO fact (name, value) VALUES ('born_at', '2026-11-20T12:30:00+00:00');
INSERT INTO fact (name, value) VALUES ('labels', '["account", "team", "product", "model", "app", "gpu_class"]');
INSERT INTO fact (name, value) VALUES ('revision', '23');
INSERT INTO fact (name, value) VALUES ('horizon', '497448');
CREATE TABLE invoice (
    account TEXT NOT NULL,
    id TEXT NOT NULL,
    number TEXT NOT NULL,
    status TEXT NOT NULL,
    period_start BIGINT NOT NULL,
    period_end BIGINT NOT NULL,
    issued_at BIGINT,
    due_at BIGINT,
    currency TEXT NOT NULL,
    subtotal BIGINT NOT NULL,
    credits BIGINT NOT NULL,
    tax BIGINT NOT NULL,
    total BIGINT NOT NULL, stated TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (account, id)
);
CREATE TABLE key_owner (
    account TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    username TEXT NOT NULL,
    PRIMARY KEY (account)
);
INSERT INTO key_owner (account, key_hash, username) VALUES ('prod', '00', 'studio-north');
CREATE TABLE label_set (
    id INTEGER NOT NULL,
    labels TEXT NOT NULL,
    PRIMARY KEY (id)
);
INSERT INTO label_set (id, labels) VALUES (1, '["prod", "", "model_apis", "fal-ai/flux/dev", "", ""]');
INSERT INTO label_set (id, labels) VALUES (2, '["prod", "", "serverless", "", "shop", "H100"]');
INSERT INTO label_set (id, labels) VALUES (3, '["prod", "", "model_apis", "fal-ai/kling", "", ""]');
INSERT INTO label_set (id, labels) VALUES (4, '["prod", "studio-north", "", "", "", ""]');
CREATE TABLE machine_account (
    account TEXT NOT NULL,
    counts_from INTEGER NOT NULL,
    runners_through INTEGER,
    requests_through INTEGER,
    PRIMARY KEY (account)
);
CREATE TABLE reconciliation (
    account TEXT NOT NULL,
    against TEXT NOT NULL,
    month INTEGER NOT NULL,
    through INTEGER NOT NULL,
    compared_at BIGINT NOT NULL,
    ledger TEXT NOT NULL,
    usage TEXT NOT NULL,
    by_category TEXT NOT NULL,
    PRIMARY KEY (account, against, month)
) WITHOUT ROWID;
CREATE TABLE request_hour (
    account TEXT NOT NULL,
    product TEXT NOT NULL,
    name TEXT NOT NULL,
    hour INTEGER NOT NULL,
    requests BIGINT NOT NULL,
    succeeded BIGINT NOT NULL,
    user_errors BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    cold_starts BIGINT NOT NULL,
    billable BIGINT NOT NULL,
    PRIMARY KEY (account, product, name, hour)
) WITHOUT ROWID;
CREATE TABLE runner_hour (
    account TEXT NOT NULL,
    app TEXT NOT NULL,
    hour INTEGER NOT NULL,
    running BIGINT NOT NULL,
    idle BIGINT NOT NULL,
    pending BIGINT NOT NULL,
    draining BIGINT NOT NULL,
    complete BOOLEAN NOT NULL,
    PRIMARY KEY (account, app, hour)
) WITHOUT ROWID;
CREATE TABLE scope (
    id INTEGER NOT NULL,
    account TEXT NOT NULL,
    source TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    born_at BIGINT NOT NULL,
    counts_from BIGINT NOT NULL,
    data_through INTEGER,
    settled_through INTEGER,
    last_success_at BIGINT,
    history_from INTEGER,
    restated_up TEXT NOT NULL,
    restated_down TEXT NOT NULL,
    restated_hours BIGINT NOT NULL, relabelled TEXT NOT NULL DEFAULT '0', detail TEXT NOT NULL DEFAULT '', detail_asked_at BIGINT, detail_version TEXT NOT NULL DEFAULT '', running_hour_read_at BIGINT,
    PRIMARY KEY (id),
    UNIQUE (account, source)
);
INSERT INTO scope (id, account, source, active, born_at, counts_from, data_through, settled_through, last_success_at, history_from, restated_up, restated_down, restated_hours, relabelled, detail, detail_asked_at, detail_version, running_hour_read_at) VALUES (1, 'prod', 'models', 1, 1788438600000000, 1788438600000000, 496790, NULL, 1795177800000000, 496786, '0', '0', 0, '0', '', NULL, '', NULL);
INSERT INTO scope (id, account, source, active, born_at, counts_from, data_through, settled_through, last_success_at, history_from, restated_up, restated_down, restated_hours, relabelled, detail, detail_asked_at, detail_version, running_hour_read_at) VALUES (2, 'prod', 'serverless', 1, 1788438600000000, 1788438600000000, 496790, NULL, 1795177800000000, 496788, '0', '0', 0, '0', '', NULL, '', NULL);
CREATE TABLE source_probe (
    account TEXT NOT NULL,
    source TEXT NOT NULL,
    asked_at BIGINT NOT NULL,
    version TEXT NOT NULL,
    reason TEXT NOT NULL,
    problem TEXT NOT NULL,
    teams INTEGER NOT NULL,
    reason_at_choice TEXT,
    PRIMARY KEY (account, source)
);
INSERT INTO source_probe (account, source, asked_at, version, reason, problem, teams, reason_at_choice) VALUES ('prod', 'organization', 1795177800000000, '0.2.0', 'scope', 'needs an admin key', 0, NULL);
CREATE TABLE state_series (
    id INTEGER NOT NULL,
    labels TEXT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE tag_account (
    account TEXT NOT NULL,
    counts_from INTEGER NOT NULL,
    PRIMARY KEY (account)
);
CREATE TABLE tag_item (
    id INTEGER NOT NULL,
    model TEXT NOT NULL,
    unit TEXT NOT NULL,
    tags TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (model, unit, tags)
);
CREATE TABLE tagged_hour (
    account TEXT NOT NULL,
    hour INTEGER NOT NULL,
    complete BOOLEAN NOT NULL,
    stated BIGINT NOT NULL,
    PRIMARY KEY (account, hour)
) WITHOUT ROWID;
CREATE TABLE team (
    account TEXT NOT NULL,
    username TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (account, username)
);
INSERT INTO team (account, username, name) VALUES ('prod', 'studio-north', 'Studio North');
CREATE TABLE unit_price (
    account TEXT NOT NULL,
    product TEXT NOT NULL,
    model TEXT NOT NULL,
    app TEXT NOT NULL,
    gpu_class TEXT NOT NULL,
    unit TEXT NOT NULL,
    hour INTEGER NOT NULL,
    price BIGINT NOT NULL,
    discount BIGINT NOT NULL, previous_price BIGINT, price_changed INTEGER, previous_discount BIGINT, discount_changed INTEGER,
    PRIMARY KEY (account, product, model, app, gpu_class, unit)
);
INSERT INTO unit_price (account, product, model, app, gpu_class, unit, hour, price, discount, previous_price, price_changed, previous_discount, discount_changed) VALUES ('prod', 'model_apis', 'fal-ai/flux/dev', '', '', 'image', 498660, 25000000, 20000000000, NULL, NULL, NULL, NULL);
CREATE TABLE counter (
    label_set_id INTEGER NOT NULL,
    measure TEXT NOT NULL,
    unit TEXT NOT NULL,
    grown TEXT NOT NULL,
    published TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    released BOOLEAN NOT NULL, base TEXT NOT NULL DEFAULT '0',
    PRIMARY KEY (label_set_id, measure, unit),
    FOREIGN KEY(label_set_id) REFERENCES label_set (id)
) WITHOUT ROWID;
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (1, 'cost', '', '4611686018907387904', '4611686018907387904', 1788438600000000, 1, '0');
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (1, 'discount', '', '1152921504726846976', '1152921504726846976', 1788438600000000, 1, '0');
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (1, 'quantity', 'image', '5000000000', '5000000000', 1788438600000000, 1, '0');
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (2, 'cost', '', '2500000016', '2500000016', 1788444600000000, 1, '0');
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (2, 'discount', '', '625000003', '625000003', 1788444600000000, 1, '0');
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (2, 'gpu_seconds', '', '250000000000', '250000000000', 1788444600000000, 1, '0');
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (2, 'quantity', 'second', '250000000000', '250000000000', 1788444600000000, 1, '0');
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (3, 'cost', '', '7', '7', 1795177800000000, 1, '0');
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (3, 'discount', '', '1', '1', 1795177800000000, 1, '0');
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (3, 'quantity', 'second', '1000000000', '1000000000', 1795177800000000, 1, '0');
INSERT INTO counter (label_set_id, measure, unit, grown, published, created_at, released, base) VALUES (4, 'cost', '', '0', '0', 1795177800000000, 0, '0');
CREATE TABLE observed_hour (
    scope_id INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    complete BOOLEAN NOT NULL,
    PRIMARY KEY (scope_id, hour),
    FOREIGN KEY(scope_id) REFERENCES scope (id)
) WITHOUT ROWID;
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498600, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498601, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498602, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498603, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498604, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498605, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498606, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498607, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498608, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498609, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498610, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498611, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498612, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498613, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498614, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498615, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498616, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498617, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498618, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498619, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498620, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498621, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498622, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498623, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498624, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498625, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498626, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498627, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498628, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498629, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498630, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498631, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498632, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498633, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498634, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498635, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498636, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498637, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498638, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498639, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498640, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498641, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498642, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498643, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498644, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498645, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498646, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498647, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498648, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498649, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498650, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498651, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498652, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498653, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498654, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498655, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498656, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498657, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498658, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498659, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (1, 498660, 0);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498600, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498601, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498602, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498603, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498604, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498605, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498606, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498607, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498608, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498609, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498610, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498611, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498612, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498613, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498614, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498615, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498616, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498617, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498618, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498619, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498620, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498621, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498622, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498623, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498624, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498625, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498626, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498627, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498628, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498629, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498630, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498631, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498632, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498633, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498634, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498635, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498636, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498637, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498638, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498639, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498640, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498641, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498642, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498643, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498644, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498645, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498646, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498647, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498648, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498649, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498650, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498651, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498652, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498653, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498654, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498655, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498656, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498657, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498658, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498659, 1);
INSERT INTO observed_hour (scope_id, hour, complete) VALUES (2, 498660, 0);
CREATE TABLE rejected_row (
    scope_id INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    end_hour INTEGER NOT NULL,
    reason TEXT NOT NULL,
    rows BIGINT NOT NULL,
    cost TEXT NOT NULL,
    PRIMARY KEY (scope_id, hour, end_hour, reason),
    FOREIGN KEY(scope_id) REFERENCES scope (id)
) WITHOUT ROWID;
CREATE TABLE series (
    id INTEGER NOT NULL,
    scope_id INTEGER NOT NULL,
    team TEXT NOT NULL,
    product TEXT NOT NULL,
    model TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    gpu_class TEXT NOT NULL,
    unit TEXT NOT NULL,
    api_key TEXT NOT NULL,
    member TEXT NOT NULL,
    surge TEXT NOT NULL,
    label_set_id INTEGER NOT NULL,
    folded_quantity TEXT NOT NULL,
    folded_gpu_seconds TEXT NOT NULL,
    folded_list_cost TEXT NOT NULL,
    folded_discount TEXT NOT NULL,
    folded_cost TEXT NOT NULL,
    first_hour INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(scope_id) REFERENCES scope (id),
    UNIQUE (scope_id, team, product, model, app, environment, gpu_class, unit, api_key, member, surge),
    FOREIGN KEY(label_set_id) REFERENCES label_set (id)
);
INSERT INTO series (id, scope_id, team, product, model, app, environment, gpu_class, unit, api_key, member, surge, label_set_id, folded_quantity, folded_gpu_seconds, folded_list_cost, folded_discount, folded_cost, first_hour) VALUES (1, 1, '', 'model_apis', 'fal-ai/flux/dev', '', '', '', 'image', '', '', '', 1, '2000000000', '0', '400000500', '80000100', '320000400', 497447);
INSERT INTO series (id, scope_id, team, product, model, app, environment, gpu_class, unit, api_key, member, surge, label_set_id, folded_quantity, folded_gpu_seconds, folded_list_cost, folded_discount, folded_cost, first_hour) VALUES (2, 2, '', 'serverless', '', 'shop', 'prod', 'H100', 'second', '', '', '', 2, '100000000000', '100000000000', '1250000000', '250000000', '1000000000', 497447);
INSERT INTO series (id, scope_id, team, product, model, app, environment, gpu_class, unit, api_key, member, surge, label_set_id, folded_quantity, folded_gpu_seconds, folded_list_cost, folded_discount, folded_cost, first_hour) VALUES (3, 1, '', 'model_apis', 'fal-ai/kling', '', '', '', 'second', '', '', '', 3, '0', '0', '0', '0', '0', 498629);
CREATE TABLE state_counter (
    state_series_id INTEGER NOT NULL,
    measure TEXT NOT NULL,
    state TEXT NOT NULL,
    grown TEXT NOT NULL,
    published TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    released BOOLEAN NOT NULL,
    base TEXT DEFAULT '0' NOT NULL,
    PRIMARY KEY (state_series_id, measure, state),
    FOREIGN KEY(state_series_id) REFERENCES state_series (id)
) WITHOUT ROWID;
CREATE TABLE tagged_booking (
    account TEXT NOT NULL,
    hour INTEGER NOT NULL,
    item_id INTEGER NOT NULL,
    cost BIGINT NOT NULL,
    PRIMARY KEY (account, hour, item_id),
    FOREIGN KEY(item_id) REFERENCES tag_item (id)
) WITHOUT ROWID;
CREATE TABLE tagged_charge (
    account TEXT NOT NULL,
    hour INTEGER NOT NULL,
    item_id INTEGER NOT NULL,
    quantity BIGINT NOT NULL,
    list_cost BIGINT NOT NULL,
    discount BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    PRIMARY KEY (account, hour, item_id),
    FOREIGN KEY(item_id) REFERENCES tag_item (id)
) WITHOUT ROWID;
CREATE TABLE tagged_counter (
    account TEXT NOT NULL,
    item_id INTEGER NOT NULL,
    grown TEXT NOT NULL,
    published TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    released BOOLEAN NOT NULL,
    PRIMARY KEY (account, item_id),
    FOREIGN KEY(item_id) REFERENCES tag_item (id)
) WITHOUT ROWID;
CREATE TABLE charge (
    scope_id INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    series_id INTEGER NOT NULL,
    quantity BIGINT NOT NULL,
    gpu_seconds BIGINT NOT NULL,
    list_cost BIGINT NOT NULL,
    discount BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    PRIMARY KEY (scope_id, hour, series_id),
    FOREIGN KEY(scope_id) REFERENCES scope (id),
    FOREIGN KEY(series_id) REFERENCES series (id)
) WITHOUT ROWID;
INSERT INTO charge (scope_id, hour, series_id, quantity, gpu_seconds, list_cost, discount, cost) VALUES (1, 498623, 1, 1000000000, 0, 200000000, 40000000, 160000000);
INSERT INTO charge (scope_id, hour, series_id, quantity, gpu_seconds, list_cost, discount, cost) VALUES (1, 498629, 3, 1000000000, 0, 8, 1, 7);
INSERT INTO charge (scope_id, hour, series_id, quantity, gpu_seconds, list_cost, discount, cost) VALUES (1, 498660, 1, 3000000000, 0, 5764607523034234880, 1152921504606846976, 4611686018427387904);
INSERT INTO charge (scope_id, hour, series_id, quantity, gpu_seconds, list_cost, discount, cost) VALUES (2, 498648, 2, 50000000000, 50000000000, 625000000, 125000000, 500000000);
INSERT INTO charge (scope_id, hour, series_id, quantity, gpu_seconds, list_cost, discount, cost) VALUES (2, 498653, 2, 50000000000, 50000000000, 625000006, 125000001, 500000005);
INSERT INTO charge (scope_id, hour, series_id, quantity, gpu_seconds, list_cost, discount, cost) VALUES (2, 498659, 2, 50000000000, 50000000000, 625000013, 125000002, 500000011);
CREATE TABLE span_total (
    scope_id INTEGER NOT NULL,
    length INTEGER NOT NULL,
    span INTEGER NOT NULL,
    series_id INTEGER NOT NULL,
    charges INTEGER NOT NULL,
    quantity_units BIGINT NOT NULL,
    quantity_nanos BIGINT NOT NULL,
    gpu_seconds_units BIGINT NOT NULL,
    gpu_seconds_nanos BIGINT NOT NULL,
    list_cost_units BIGINT NOT NULL,
    list_cost_nanos BIGINT NOT NULL,
    discount_units BIGINT NOT NULL,
    discount_nanos BIGINT NOT NULL,
    cost_units BIGINT NOT NULL,
    cost_nanos BIGINT NOT NULL,
    PRIMARY KEY (scope_id, length, span, series_id),
    FOREIGN KEY(scope_id) REFERENCES scope (id),
    FOREIGN KEY(series_id) REFERENCES series (id)
) WITHOUT ROWID;
INSERT INTO span_total (scope_id, length, span, series_id, charges, quantity_units, quantity_nanos, gpu_seconds_units, gpu_seconds_nanos, list_cost_units, list_cost_nanos, discount_units, discount_nanos, cost_units, cost_nanos) VALUES (1, 24, 20775, 1, 1, 1, 0, 0, 0, 0, 200000000, 0, 40000000, 0, 160000000);
INSERT INTO span_total (scope_id, length, span, series_id, charges, quantity_units, quantity_nanos, gpu_seconds_units, gpu_seconds_nanos, list_cost_units, list_cost_nanos, discount_units, discount_nanos, cost_units, cost_nanos) VALUES (1, 24, 20776, 3, 1, 1, 0, 0, 0, 0, 8, 0, 1, 0, 7);
INSERT INTO span_total (scope_id, length, span, series_id, charges, quantity_units, quantity_nanos, gpu_seconds_units, gpu_seconds_nanos, list_cost_units, list_cost_nanos, discount_units, discount_nanos, cost_units, cost_nanos) VALUES (1, 24, 20777, 1, 1, 3, 0, 0, 0, 5764607523, 34234880, 1152921504, 606846976, 4611686018, 427387904);
INSERT INTO span_total (scope_id, length, span, series_id, charges, quantity_units, quantity_nanos, gpu_seconds_units, gpu_seconds_nanos, list_cost_units, list_cost_nanos, discount_units, discount_nanos, cost_units, cost_nanos) VALUES (1, 192, 2596, 1, 1, 1, 0, 0, 0, 0, 200000000, 0, 40000000, 0, 160000000);
INSERT INTO span_total (scope_id, length, span, series_id, charges, quantity_units, quantity_nanos, gpu_seconds_units, gpu_seconds_nanos, list_cost_units, list_cost_nanos, discount_units, discount_nanos, cost_units, cost_nanos) VALUES (1, 192, 2597, 1, 1, 3, 0, 0, 0, 5764607523, 34234880, 1152921504, 606846976, 4611686018, 427387904);
INSERT INTO span_total (scope_id, length, span, series_id, charges, quantity_units, quantity_nanos, gpu_seconds_units, gpu_seconds_nanos, list_cost_units, list_cost_nanos, discount_units, discount_nanos, cost_units, cost_nanos) VALUES (1, 192, 2597, 3, 1, 1, 0, 0, 0, 0, 8, 0, 1, 0, 7);
INSERT INTO span_total (scope_id, length, span, series_id, charges, quantity_units, quantity_nanos, gpu_seconds_units, gpu_seconds_nanos, list_cost_units, list_cost_nanos, discount_units, discount_nanos, cost_units, cost_nanos) VALUES (2, 24, 20777, 2, 3, 150, 0, 150, 0, 0, 1875000019, 0, 375000003, 0, 1500000016);
INSERT INTO span_total (scope_id, length, span, series_id, charges, quantity_units, quantity_nanos, gpu_seconds_units, gpu_seconds_nanos, list_cost_units, list_cost_nanos, discount_units, discount_nanos, cost_units, cost_nanos) VALUES (2, 192, 2597, 2, 3, 150, 0, 150, 0, 0, 1875000019, 0, 375000003, 0, 1500000016);
CREATE TABLE state_hour (
    series_id INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    scope_id INTEGER NOT NULL,
    state_series_id INTEGER NOT NULL,
    counted BOOLEAN NOT NULL,
    cost_running BIGINT NOT NULL,
    cost_idle BIGINT NOT NULL,
    cost_pending BIGINT NOT NULL,
    cost_draining BIGINT NOT NULL,
    cost_unknown BIGINT NOT NULL,
    gpu_seconds_running BIGINT NOT NULL,
    gpu_seconds_idle BIGINT NOT NULL,
    gpu_seconds_pending BIGINT NOT NULL,
    gpu_seconds_draining BIGINT NOT NULL,
    gpu_seconds_unknown BIGINT NOT NULL,
    PRIMARY KEY (series_id, hour),
    FOREIGN KEY(series_id) REFERENCES series (id),
    FOREIGN KEY(state_series_id) REFERENCES state_series (id)
) WITHOUT ROWID;
