BEGIN TRANSACTION;
CREATE TABLE balance (
	account TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	amount BIGINT NOT NULL, 
	PRIMARY KEY (account, at)
);
INSERT INTO "balance" VALUES('prod',1793363400000000,7374792800);
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
)
 WITHOUT ROWID

;
INSERT INTO "charge" VALUES(1,498154,1,4000000000,0,400000000,80000000,320000000);
INSERT INTO "charge" VALUES(1,498156,1,2000000000,0,200000000,40000000,160000000);
CREATE TABLE counter (
	label_set_id INTEGER NOT NULL, 
	measure TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	grown TEXT NOT NULL, 
	published TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	released BOOLEAN NOT NULL, 
	PRIMARY KEY (label_set_id, measure, unit), 
	FOREIGN KEY(label_set_id) REFERENCES label_set (id)
)
 WITHOUT ROWID

;
INSERT INTO "counter" VALUES(1,'cost','','80000000','80000000',1793363400000000,1);
INSERT INTO "counter" VALUES(1,'discount','','20000000','20000000',1793363400000000,1);
INSERT INTO "counter" VALUES(1,'quantity','image','1000000000','1000000000',1793363400000000,1);
CREATE TABLE fact (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "fact" VALUES('schema','1');
INSERT INTO "fact" VALUES('born_at','2026-10-30T12:30:00+00:00');
INSERT INTO "fact" VALUES('labels','["account", "team", "product", "model", "app", "gpu_class"]');
INSERT INTO "fact" VALUES('revision','7');
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
	total BIGINT NOT NULL, 
	PRIMARY KEY (account, id)
);
INSERT INTO "invoice" VALUES('prod','inv_1','FAL-202609-0001','paid',1788220800000000,1790812800000000,NULL,NULL,'USD',5000000000,0,0,5000000000);
CREATE TABLE label_set (
	id INTEGER NOT NULL, 
	labels TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "label_set" VALUES(1,'["prod", "", "model_apis", "fal-ai/flux/dev", "", ""]');
CREATE TABLE observed_hour (
	scope_id INTEGER NOT NULL, 
	hour INTEGER NOT NULL, 
	complete BOOLEAN NOT NULL, 
	changed_at BIGINT, 
	PRIMARY KEY (scope_id, hour), 
	FOREIGN KEY(scope_id) REFERENCES scope (id)
)
 WITHOUT ROWID

;
INSERT INTO "observed_hour" VALUES(1,498154,1,1793363400000000);
INSERT INTO "observed_hour" VALUES(1,498155,1,NULL);
INSERT INTO "observed_hour" VALUES(1,498156,0,1793363700000000);
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
	restated_hours BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (account, source)
);
INSERT INTO "scope" VALUES(1,'prod','models',1,1793363400000000,1793363400000000,498156,NULL,1793363700000000,498154,'0','0',0);
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
	label_set_id INTEGER NOT NULL, 
	folded_quantity TEXT NOT NULL, 
	folded_gpu_seconds TEXT NOT NULL, 
	folded_list_cost TEXT NOT NULL, 
	folded_discount TEXT NOT NULL, 
	folded_cost TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (scope_id, team, product, model, app, environment, gpu_class, unit, api_key), 
	FOREIGN KEY(scope_id) REFERENCES scope (id), 
	FOREIGN KEY(label_set_id) REFERENCES label_set (id)
);
INSERT INTO "series" VALUES(1,1,'','model_apis','fal-ai/flux/dev','','','','image','',1,'0','0','0','0','0');
CREATE TABLE source_choice (
	account TEXT NOT NULL, 
	sources TEXT NOT NULL, 
	chosen_at BIGINT NOT NULL, 
	PRIMARY KEY (account)
);
CREATE TABLE unit_price (
	account TEXT NOT NULL, 
	product TEXT NOT NULL, 
	model TEXT NOT NULL, 
	app TEXT NOT NULL, 
	gpu_class TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	hour INTEGER NOT NULL, 
	price BIGINT NOT NULL, 
	discount BIGINT NOT NULL, 
	PRIMARY KEY (account, product, model, app, gpu_class, unit)
);
COMMIT;
